//! What is drawn, and how wide.

use std::sync::{Arc, Mutex};

use indicatif::TermLike;

use super::*;

#[test]
fn every_template_is_understood() {
    for (has_length, columns) in [(true, 80), (true, 40), (false, 80), (false, 40)] {
        let template = template(has_length, columns);
        assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
    }
}

/// A terminal of so many columns that keeps what is drawn.
#[derive(Clone, Debug)]
struct Screen(u16, Arc<Mutex<Vec<String>>>);

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.0
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.1.lock().unwrap().push(text.to_owned());
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_bar_fits_into_its_terminal() {
    for (columns, has_length) in [
        (76, true),
        (120, true),
        (44, true),
        (44, false),
        (76, false),
    ] {
        let screen = Screen(columns, Arc::default());
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let bar = ProgressBar::with_draw_target(has_length.then_some(5 << 40), target)
            .with_style(style(template(has_length, columns)))
            .with_prefix("realtimekit/recording-of-a-long-name.mp4")
            .with_message("23h 59m left");
        bar.set_position(4 << 40);
        bar.tick();
        let drawn = screen.1.lock().unwrap();
        let shown = drawn.iter().rfind(|text| text.contains("realtimekit"));
        let shown = shown.unwrap().trim_end();
        assert!(
            shown.chars().count() <= columns.into(),
            "{columns}: {shown}"
        );
        assert!(shown.contains("23h 59m left"), "{shown}");
    }
}

#[test]
fn a_plain_line_tells_bytes_and_time_left() {
    let row = Row {
        label: "100ms/recording.mp4".to_owned(),
        done: 1 << 20,
        total: Some(4 << 20),
        deadline: Some("2026-03-02T10:10:00Z".parse().unwrap()),
    };
    let now = "2026-03-02T10:00:00Z".parse().unwrap();
    assert_eq!(
        row_line("carrying", &row, now),
        "carrying  100ms/recording.mp4 1.0/4.0 MiB, 10m left"
    );
}

#[test]
fn color_is_only_where_it_is_wanted() {
    assert_eq!(paint(Severity::Bad, "x", false), "x");
    assert_eq!(paint(Severity::Bad, "x", true), "\u{1b}[31mx\u{1b}[0m");
}

// N4: before a bucket that refuses nothing has a length yet, and the bar was full.
#[test]
fn what_has_no_length_yet_is_no_full_bar() {
    let screen = Screen(80, Arc::default());
    let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
    let mut terminal = Terminal::new(Stderr {
        bars: MultiProgress::with_draw_target(target),
        is_terminal: true,
        is_colored: false,
    });
    let waiting = Record {
        size_bytes: None,
        ..board::tests::record("recording.mp4")
    };
    terminal.expect(&[waiting], "2026-03-02T10:00:00Z".parse().unwrap());
    let drawn = screen.1.lock().unwrap().join("\n");
    assert!(drawn.contains("0 of 1"), "{drawn}");
    assert!(!drawn.contains("==") && !drawn.contains("0/0"), "{drawn}");
}
