//! Pure decisions of the race: what an attempt's failure leads to, and when.

pub mod retry;
