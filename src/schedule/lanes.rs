//! How many lanes a transfer should have. Pure: the engine measures, this decides.
//!
//! One lane that fills the pipe is better than eight that share it, and an origin that throttles each
//! connection (a common habit of CDNs) gives more to more. Nobody tells which of the two it is, so it is
//! tried: lanes are added while that raises the rate of all of them together.

use std::time::Duration;

/// The shortest time over which a rate means something.
const FIRST_WINDOW: Duration = Duration::from_millis(400);

/// The same after lanes were added: throttles that count in whole seconds let the first one through.
const WINDOW: Duration = Duration::from_millis(1000);

/// The least share of the lanes' time that is spent waiting for the origin. Below it the bucket or we
/// ourselves are the narrow place, and more lanes only cost.
const MIN_STARVED: f64 = 0.5;

/// What added lanes must bring of what they would bring if each were as fast as the ones before.
const MIN_GAIN: f64 = 0.3;

/// Above this gain each lane is throttled by itself, and all there may be are tried at once.
const PROPORTIONAL_GAIN: f64 = 0.75;

/// A lane that is this fast (bytes per second) is tried with one more, a slower one with three.
const FAST_LANE: f64 = 32.0 * 1024.0 * 1024.0;

/// After lanes brought nothing they are not tried again for so long: the path may have changed.
const REST: Duration = Duration::from_secs(20);

/// What was measured since the last sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateSample {
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// Bytes that all lanes together brought.
    pub(crate) bytes: u64,
    /// Lanes that were open.
    pub(crate) lanes: u32,
    /// The share of the lanes' time that was spent waiting for the origin, from 0 to 1.
    pub(crate) starved: f64,
}

impl RateSample {
    /// Bytes per second.
    pub(crate) fn rate(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64().max(1e-3)
    }
}

/// The course of one transfer's lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneProbe {
    most: u32,
    target: u32,
    /// Lanes and rate before the last lanes were added.
    before: Option<(u32, f64)>,
    /// Whether one window without a gain has passed since then.
    is_doubtful: bool,
    rested: Duration,
    is_settled: bool,
}

impl LaneProbe {
    /// Begins with one lane; never more than `most`.
    pub(crate) fn new(most: u32) -> LaneProbe {
        LaneProbe {
            most: most.max(1),
            target: 1,
            before: None,
            is_doubtful: false,
            rested: Duration::ZERO,
            is_settled: false,
        }
    }

    /// How many lanes there should be.
    pub(crate) fn target(&self) -> u32 {
        self.target
    }

    /// How many lanes there may be.
    pub(crate) fn most(&self) -> u32 {
        self.most
    }

    /// How long to measure before the next decision.
    pub(crate) fn window(&self) -> Duration {
        match self.before {
            None if !self.is_settled => FIRST_WINDOW,
            _ => WINDOW,
        }
    }

    /// Takes in a measurement of at least [`LaneProbe::window`].
    pub(crate) fn decide(&mut self, sample: &RateSample) {
        if self.is_settled {
            self.rested += sample.elapsed;
            if self.rested >= REST {
                *self = LaneProbe {
                    target: self.target,
                    ..LaneProbe::new(self.most)
                };
            }
            return;
        }
        if sample.starved < MIN_STARVED || sample.lanes < self.target {
            return;
        }
        let rate = sample.rate();
        let Some((lanes, slower)) = self.before else {
            let is_fast = rate / f64::from(sample.lanes.max(1)) >= FAST_LANE;
            self.grow(sample.lanes, rate, if is_fast { 2 } else { 4 });
            return;
        };
        let growth = f64::from(sample.lanes) / f64::from(lanes.max(1)) - 1.0;
        let gain = (rate / slower.max(1.0) - 1.0) / growth.max(0.1);
        if gain >= MIN_GAIN {
            let is_proportional = gain >= PROPORTIONAL_GAIN;
            self.grow(
                sample.lanes,
                rate,
                if is_proportional { self.most } else { 2 },
            );
        } else if self.is_doubtful {
            // As many as would bring this rate if each were as fast as the ones before: the pipe may have become full
            // on the way from few to all.
            let enough = rate / (slower.max(1.0) / f64::from(lanes.max(1)));
            self.target = (enough.round() as u32).clamp(lanes, sample.lanes.max(lanes));
            self.is_settled = true;
        } else {
            self.is_doubtful = true;
        }
    }

    /// No more lanes than there are: the origin refused another.
    pub(crate) fn cap(&mut self, lanes: u32) {
        self.most = lanes.max(1);
        self.target = self.target.min(self.most);
    }

    fn grow(&mut self, lanes: u32, rate: f64, factor: u32) {
        self.is_doubtful = false;
        if lanes >= self.most {
            self.target = self.most;
            self.is_settled = true;
            return;
        }
        self.before = Some((lanes, rate));
        self.target = lanes.saturating_mul(factor).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: f64 = 1_000_000.0;

    /// The lanes that a ramp comes to over `seconds` with an origin whose total rate for so many lanes is
    /// `rate` (bytes per second).
    fn lanes_after(seconds: f64, most: u32, starved: f64, rate: impl Fn(u32) -> f64) -> u32 {
        let mut ramp = LaneProbe::new(most);
        let mut at = 0.0;
        while at < seconds {
            let elapsed = ramp.window();
            at += elapsed.as_secs_f64();
            let lanes = ramp.target();
            ramp.decide(&RateSample {
                elapsed,
                bytes: (rate(lanes) * elapsed.as_secs_f64()) as u64,
                lanes,
                starved,
            });
        }
        ramp.target()
    }

    #[test]
    fn a_throttled_connection_gets_all_lanes_soon() {
        let rate = |lanes| 8.0 * MB * f64::from(lanes);
        assert_eq!(lanes_after(1.4, 24, 0.95, rate), 24);
        assert_eq!(lanes_after(4.0, 24, 0.95, rate), 24);
        assert_eq!(lanes_after(60.0, 24, 0.95, rate), 24);
    }

    #[test]
    fn a_pipe_that_is_full_keeps_its_one_lane() {
        assert_eq!(lanes_after(10.0, 24, 0.9, |_| 100.0 * MB), 1);
        assert_eq!(lanes_after(10.0, 24, 0.9, |_| 0.5 * MB), 1);
    }

    #[test]
    fn lanes_stop_where_the_pipe_is_full() {
        let rate = |lanes| (10.0 * MB * f64::from(lanes)).min(40.0 * MB);
        let lanes = lanes_after(10.0, 32, 0.9, rate);
        assert!((4..=8).contains(&lanes), "{lanes}");
    }

    #[test]
    fn lanes_fall_back_to_as_many_as_fill_the_pipe() {
        for full in [6, 8, 9, 12, 20] {
            let rate = |lanes: u32| 8.0 * MB * f64::from(lanes.min(full));
            let lanes = lanes_after(10.0, 24, 0.9, rate);
            assert!((full..=24).contains(&lanes), "{lanes} lanes for {full}");
            assert!(lanes == full || full > 9, "{lanes} lanes for {full}");
        }
    }

    #[test]
    fn a_slow_bucket_gets_no_more_lanes() {
        assert_eq!(lanes_after(10.0, 24, 0.2, |lanes| MB * f64::from(lanes)), 1);
    }

    #[test]
    fn an_origin_that_refuses_more_is_not_asked_again() {
        let mut ramp = LaneProbe::new(24);
        let sample = |lanes, bytes| RateSample {
            elapsed: WINDOW,
            bytes,
            lanes,
            starved: 1.0,
        };
        ramp.decide(&sample(1, 1_000_000));
        assert_eq!(ramp.target(), 4);
        ramp.cap(2);
        ramp.decide(&sample(2, 2_000_000));
        assert_eq!(ramp.target(), 2);
    }
}
