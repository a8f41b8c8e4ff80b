//! How full a cluster was over time, which samples of that stay, and when it will be full if it goes on so.

use crate::limits::{
    CAPACITY_DAYS, CAPACITY_HOURS, GROWTH_FAR, GROWTH_SAMPLES_MIN, GROWTH_SPAN_MIN, GROWTH_WINDOW,
};
use std::time::Duration;

/// Seconds of one hour: samples are numbered by it.
pub const HOUR_SECONDS: i64 = 3600;
const DAY_HOURS: u32 = 24;

/// A cluster in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Hours since 1970.
    pub hour: u32,
    /// Bytes of the disks of all chunk servers that were there.
    pub total_bytes: u64,
    /// Of them in use, or not to be had.
    pub used_bytes: u64,
    /// Chunks in the state.
    pub chunks: u64,
    /// Inodes in the state.
    pub inodes: u64,
}

/// What a straight line through the recent samples says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outlook {
    /// The samples reach back too short a time, or are too few.
    TooLittleHistory {
        /// How far they reach back.
        span: Duration,
    },
    /// Use stays or shrinks, or grows so slowly that it means nothing.
    NotGrowing {
        /// Bytes a day; negative: it shrinks.
        bytes_per_day: i64,
    },
    /// It grows.
    Full {
        /// Bytes a day.
        bytes_per_day: i64,
        /// From now; zero: it is full.
        after: Duration,
    },
}

/// The hour of a moment, in seconds since 1970.
pub fn hour_of(seconds: i64) -> u32 {
    u32::try_from(seconds.div_euclid(HOUR_SECONDS)).unwrap_or(0)
}

/// Which of `hours` (ascending) are no longer kept in the hour `now`: each hour stays for two days, then the first of each day
/// for two years.
pub fn outdated(hours: &[u32], now: u32) -> Vec<u32> {
    let (mut outdated, mut day_before) = (Vec::new(), None);
    for &hour in hours {
        let day = hour / DAY_HOURS;
        let is_first_of_day = day_before.replace(day) != Some(day);
        let age = now.saturating_sub(hour);
        let stays = age < CAPACITY_HOURS || (is_first_of_day && age / DAY_HOURS < CAPACITY_DAYS);
        if !stays {
            outdated.push(hour);
        }
    }
    outdated
}

/// What the samples (ascending) say of the future, seen from the last of them, with `free_bytes` left now.
pub fn outlook(samples: &[Sample], free_bytes: u64) -> Outlook {
    let Some(last) = samples.last() else { return Outlook::TooLittleHistory { span: Duration::ZERO } };
    let window = (GROWTH_WINDOW.as_secs() / HOUR_SECONDS as u64) as u32;
    let begin = samples.partition_point(|sample| sample.hour + window < last.hour);
    let recent = &samples[begin..];
    let span = Duration::from_secs(u64::from(last.hour - recent[0].hour) * HOUR_SECONDS as u64);
    if recent.len() < GROWTH_SAMPLES_MIN || span < GROWTH_SPAN_MIN {
        return Outlook::TooLittleHistory { span };
    }
    let per_hour = slope(recent);
    let bytes_per_day = (per_hour * f64::from(DAY_HOURS)) as i64;
    let hours = free_bytes as f64 / per_hour;
    if per_hour <= 0.0 || hours * HOUR_SECONDS as f64 > GROWTH_FAR.as_secs_f64() {
        return Outlook::NotGrowing { bytes_per_day };
    }
    Outlook::Full { bytes_per_day, after: Duration::from_secs_f64(hours * HOUR_SECONDS as f64) }
}

/// Bytes an hour: least squares, each sample weighing as much as the time that it stands for, since old ones are a day apart and
/// new ones an hour.
fn slope(samples: &[Sample]) -> f64 {
    let first = samples[0];
    let at = |index: usize| f64::from(samples[index].hour - first.hour);
    let points = (0..samples.len()).map(|index| {
        let (before, after) = (index.saturating_sub(1), (index + 1).min(samples.len() - 1));
        let weight = (at(after) - at(before)) / 2.0;
        (at(index), samples[index].used_bytes as f64 - first.used_bytes as f64, weight)
    });
    let points: Vec<(f64, f64, f64)> = points.collect();
    let weight: f64 = points.iter().map(|point| point.2).sum();
    let mean_time = points.iter().map(|point| point.0 * point.2).sum::<f64>() / weight;
    let mean_used = points.iter().map(|point| point.1 * point.2).sum::<f64>() / weight;
    let over =
        points.iter().map(|point| point.2 * (point.0 - mean_time) * (point.1 - mean_used)).sum::<f64>();
    let under = points.iter().map(|point| point.2 * (point.0 - mean_time).powi(2)).sum::<f64>();
    if under > 0.0 { over / under } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const DAY: Duration = Duration::from_secs(86_400);

    fn sample(hour: u32, used_gib: u64) -> Sample {
        Sample { hour, total_bytes: 1000 * GIB, used_bytes: used_gib * GIB, ..Sample::default() }
    }

    #[test]
    fn steady_growth_is_carried_on() {
        let samples: Vec<Sample> = (0..=240).map(|hour| sample(1000 + hour, 100 + u64::from(hour))).collect();
        let Outlook::Full { bytes_per_day, after } = outlook(&samples, 660 * GIB) else { panic!() };
        assert_eq!(bytes_per_day / GIB as i64, 24);
        assert_eq!(after.as_secs() / 3600, 660);
        let Outlook::Full { after, .. } = outlook(&samples, 0) else { panic!("it is full") };
        assert_eq!(after, Duration::ZERO);
    }

    #[test]
    fn samples_of_days_and_of_hours_weigh_as_their_time() {
        // Nothing for twelve days, then a busy two: a fit through hours alone would see nothing else.
        let days = (0..12).map(|day| sample(day * 24, 100));
        let hours = (0..=48).map(|hour| sample(288 + hour, 100 + u64::from(hour)));
        let samples: Vec<Sample> = days.chain(hours).collect();
        let Outlook::Full { bytes_per_day, .. } = outlook(&samples, 500 * GIB) else { panic!() };
        let per_day = bytes_per_day / GIB as i64;
        assert!((1..=6).contains(&per_day), "{per_day} GiB a day");
    }

    #[test]
    fn only_the_recent_past_counts() {
        let old = (0..30).map(|day| sample(day * 24, 10 * u64::from(day)));
        let recent = (0..15).map(|day| sample((31 + day) * 24, 300));
        let samples: Vec<Sample> = old.chain(recent).collect();
        assert_eq!(outlook(&samples, GIB), Outlook::NotGrowing { bytes_per_day: 0 });
    }

    #[test]
    fn what_is_not_known_is_said() {
        assert_eq!(outlook(&[], GIB), Outlook::TooLittleHistory { span: Duration::ZERO });
        let short: Vec<Sample> = (0..4).map(|hour| sample(hour, u64::from(hour))).collect();
        assert_eq!(outlook(&short, GIB), Outlook::TooLittleHistory { span: Duration::from_secs(3 * 3600) });
        let shrinking: Vec<Sample> = (0..48).map(|hour| sample(hour, 500 - u64::from(hour))).collect();
        let Outlook::NotGrowing { bytes_per_day } = outlook(&shrinking, GIB) else { panic!() };
        assert_eq!(bytes_per_day / GIB as i64, -24);
        let slow: Vec<Sample> =
            (0..=14).map(|day| Sample { used_bytes: u64::from(day) * 1000, ..sample(day * 24, 0) }).collect();
        assert!(matches!(outlook(&slow, 900 * GIB), Outlook::NotGrowing { bytes_per_day: 999..=1000 }));
    }

    #[test]
    fn history_is_bounded() {
        let mut kept: Vec<u32> = Vec::new();
        let begin = 500_000;
        for now in begin..begin + 3 * 365 * 24 {
            kept.push(now);
            let gone = outdated(&kept, now);
            kept.retain(|hour| gone.binary_search(hour).is_err());
            assert!(kept.len() <= (CAPACITY_HOURS + CAPACITY_DAYS + 2) as usize, "{}", kept.len());
        }
        let now = begin + 3 * 365 * 24 - 1;
        assert_eq!(kept.iter().filter(|&&hour| now - hour < 48).count(), 48);
        assert!(now - kept[0] > 729 * 24 && now - kept[0] <= 731 * 24);
        assert_eq!(DAY.as_secs(), u64::from(DAY_HOURS) * HOUR_SECONDS as u64);
    }
}
