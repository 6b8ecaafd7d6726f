//! The time of the next look at the machine's memory: before it can be gone, by the speed at which it goes.

use std::time::Duration;

use crate::model::Bytes;

/// Time in which all memory could be gone, if nothing faster was measured.
const SLOWEST: f64 = 60.0;

/// No look comes sooner than this after the last one.
const SHORTEST: Duration = Duration::from_millis(20);

/// The time until half of the `room` to the next level is gone, if memory goes at `per_second` bytes, and at the least so
/// fast that all of it (`total`) is gone in a minute. It is at least 20 ms, and at most `longest`.
pub fn pause(room: Bytes, per_second: f64, total: Bytes, longest: Duration) -> Duration {
    let rate = per_second.max(total.0 as f64 / SLOWEST).max(1.0);
    let half = Duration::try_from_secs_f64(room.0 as f64 / rate / 2.0).unwrap_or(longest);
    half.max(SHORTEST).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_memory_goes_the_sooner_is_the_next_look() {
        const GB: u64 = Bytes::GIB;
        let pause = |room: u64, per_second: u64| {
            let longest = Duration::from_secs(30);
            pause(Bytes(room * GB), (per_second * GB) as f64, Bytes(60 * GB), longest).as_millis()
        };
        assert_eq!([pause(30, 0), pause(30, 1), pause(30, 10)], [15_000, 15_000, 1500]);
        assert_eq!([pause(3, 10), pause(0, 10), pause(60, 0)], [150, 20, 30_000]);
    }
}
