//! A second at a time: what the path makes of reports, and of the packets around them.

use super::*;

const SECOND: i64 = 1_000_000;

/// Media that last `seconds`, and by how much the sender's clock is ahead of them.
struct Case {
    lows: Vec<Low>,
    reports: Vec<(i64, i64)>,
}

/// Packets every half second, and a report every `every` seconds, of a media clock that is behind by `behind`.
fn case(seconds: i64, every: i64, behind: impl Fn(i64) -> i64) -> Case {
    let low = |n: i64| {
        let media_us = n * SECOND / 2;
        let step_us = behind(media_us) - behind(media_us - 20_000);
        let late_us = 700 * (n % 5);
        Low {
            media_us,
            arrival_us: media_us + behind(media_us) + 90 * SECOND + late_us,
            step: (media_us, step_us),
        }
    };
    let report = |n: i64| (n * every * SECOND, n * every * SECOND + behind(n * every * SECOND));
    Case { lows: (0..seconds * 2).map(low).collect(), reports: (1..seconds / every).map(report).collect() }
}

/// How far the path is off at worst.
fn off(case: &Case, behind: impl Fn(i64) -> i64) -> i64 {
    let path = Path::follow(&case.reports, &case.lows).unwrap();
    case.lows
        .iter()
        .map(|low| (path.at(low.media_us) - low.media_us - behind(low.media_us)).abs())
        .max()
        .unwrap()
}

fn jump(media_us: i64) -> i64 {
    if media_us < 17 * SECOND { 0 } else { 390_000 }
}

fn slow(media_us: i64) -> i64 {
    media_us * 14 / 1_000
}

#[test]
fn clocks_of_all_kinds_are_followed() {
    type Behind = fn(i64) -> i64;
    let kinds: [(&str, Behind, bool); 6] = [
        ("steady", |_| 0, false),
        ("200 ppm", |us| us / 5_000, false),
        ("slow", slow, true),
        ("fast", |us| -slow(us), true),
        ("jump", jump, true),
        ("forward", |us| -jump(us), true),
    ];
    for (what, behind, is_bent) in kinds {
        for every in [1, 5] {
            let case = case(40, every, behind);
            assert!(off(&case, behind) <= 2_000, "{what}, every {every} s: {} us", off(&case, behind));
            let path = Path::follow(&case.reports, &case.lows).unwrap();
            assert_eq!(path.bent().is_some(), is_bent, "{what}, every {every} s");
        }
    }
}

#[test]
fn one_wrong_report_moves_nothing_wherever_it_is() {
    for behind in [|_| 0, slow, jump] {
        let clean = case(60, 5, behind);
        for n in 0..clean.reports.len() {
            for wrong_us in [-9 * SECOND, -390_000, -60_000, 60_000, 390_000, 9 * SECOND] {
                let mut case = case(60, 5, behind);
                case.reports[n].1 += wrong_us;
                assert!(off(&case, behind) <= 20_000, "report {n} by {wrong_us}: {} us", off(&case, behind));
            }
        }
    }
}

#[test]
fn late_and_doubled_reports_change_nothing() {
    let mut case = case(40, 5, slow);
    let late = case.reports.remove(1);
    case.reports.push(late);
    case.reports.push(case.reports[0]);
    assert!(off(&case, slow) <= 2_000);
}

#[test]
fn a_step_of_the_senders_clock_moves_no_media() {
    for step_us in [-3_600 * SECOND, -80_000, 80_000, 2 * SECOND] {
        for behind in [|_| 0, slow] {
            let mut case = case(60, 5, behind);
            case.reports.iter_mut().skip(6).for_each(|report| report.1 += step_us);
            assert!(off(&case, behind) <= 20_000, "by {step_us}: {} us", off(&case, behind));
        }
    }
}

#[test]
fn reports_that_wobble_and_end_move_nothing_that_comes_long_after() {
    let mut many = case(3_600, 1, |_| 0);
    many.reports.truncate(5);
    many.reports[3..].iter_mut().for_each(|report| report.1 += 25_000);
    let mut two = case(3_600, 1, |_| 0);
    two.reports = vec![(SECOND, SECOND), (1_100_000, 1_125_000)];
    for case in [many, two] {
        assert!(off(&case, |_| 0) <= 60_000, "{} us", off(&case, |_| 0));
    }
}

#[test]
fn what_the_network_adds_moves_nothing() {
    let mut case = case(60, 5, slow);
    for low in case.lows.iter_mut().skip(50) {
        low.arrival_us += 150_000;
    }
    case.lows[50].step.1 += 150_000;
    assert!(off(&case, slow) <= 20_000, "{} us", off(&case, slow));
}
