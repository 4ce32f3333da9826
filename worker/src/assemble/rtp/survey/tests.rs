use std::io;

use super::*;
use shared::capture::DamagedSpan;

const HOUR_US: i64 = 3_600_000_000;

#[test]
fn marks_of_long_ago_stretch_no_damage() {
    let mark = |arrival_us, mark| Logged::Mark { arrival_us, mark };
    let log = vec![
        mark(HOUR_US, Mark::Joined),
        mark(1_000, Mark::Paused),
        mark(2_000, Mark::Resumed),
        Logged::Damaged(DamagedSpan { segment: 0, offset: 9, len: 9 }),
        mark(3_000, Mark::Unmuted),
        mark(HOUR_US + 50_000, Mark::Muted),
    ];
    let survey = survey(|| io::Result::Ok(log.clone().into_iter().map(Ok))).unwrap();
    assert_eq!(survey.damaged, [(HOUR_US, HOUR_US + 50_000)]);
}
