//! The time of the next look at the machine's memory: before it can be gone, by the speed at which it goes.

use std::time::Duration;

use crate::model::Bytes;

/// Time in which all memory could be gone, if nothing faster was measured.
const SLOWEST: f64 = 60.0;

/// Time in which files in memory could fill all of it, and the speed at which one process writes them at most, in bytes per
/// second.
const FILES: (f64, f64) = (4.0, 4.0 * Bytes::GIB as f64);

/// The speed at which one process takes memory page by page, in bytes per second: 1.2 to 2.1 GB where it was measured.
const UNSEEN: f64 = Bytes::GIB as f64;

/// No look comes sooner than this after the last one.
const SHORTEST: Duration = Duration::from_millis(20);

/// The speed at which memory (`total`) could go without a sign beforehand, in bytes per second. The kernel wakes memmon for
/// processes that grow, but not for `files` in memory, so these count only if memmon can do something about them.
pub fn unforeseen(total: Bytes, files: bool) -> f64 {
    let (seconds, most) = FILES;
    let of_files = if files { (total.0 as f64 / seconds).min(most) } else { 0.0 };
    of_files.max(total.0 as f64 / SLOWEST)
}

/// The same where the kernel wakes memmon for nothing.
pub fn unseen(total: Bytes, files: bool) -> f64 {
    unforeseen(total, files).max(UNSEEN)
}

/// The time until half of the `room` to the next level is gone, if memory goes at `per_second` bytes. It is at least 20 ms, and
/// at most `longest`.
pub fn pause(room: Bytes, per_second: f64, longest: Duration) -> Duration {
    let rate = per_second.max(1.0);
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
            let rate = unforeseen(Bytes(60 * GB), false).max((per_second * GB) as f64);
            pause(Bytes(room * GB), rate, longest).as_millis()
        };
        assert_eq!([pause(30, 0), pause(30, 1), pause(30, 10)], [15_000, 15_000, 1500]);
        assert_eq!([pause(3, 10), pause(0, 10), pause(60, 0)], [150, 20, 30_000]);
        assert_eq!(super::pause(Bytes(GB), 0.0, Duration::MAX).as_secs(), GB / 2);
    }

    #[test]
    fn where_nothing_wakes_memmon_a_small_machine_is_looked_at_more_often() {
        let longest = Duration::from_secs(1);
        let pause = |megabytes: u64, room: u64| {
            pause(Bytes(room << 20), unseen(Bytes(megabytes << 20), false), longest).as_millis()
        };
        // Of 400 MB half can be gone after a fifth of a second.
        assert_eq!([pause(400, 380), pause(400, 38), pause(16 << 10, 15 << 10)], [185, 20, 1000]);
    }

    #[test]
    fn files_in_memory_grow_faster_than_anything_that_is_foreseen() {
        let rate = |megabytes: u64, files| unforeseen(Bytes(megabytes << 20), files) / f64::from(1 << 20);
        assert_eq!([rate(960, false), rate(960, true)], [16.0, 240.0]);
        assert_eq!([rate(16 << 10, true), rate(64 << 10, true)], [4096.0; 2]);
        // A minute is less for so much memory.
        assert_eq!(rate(480 << 10, true), 8192.0);
    }
}
