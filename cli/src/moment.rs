//! Moments as people write them (RFC 3339), in UTC.

use cairn_core::time::Timestamp;

/// Days before 1970 of the era that the civil rules count from (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
const ERA_DAYS: i64 = 719_468;
const DAY_SECONDS: i64 = 86_400;

/// `2026-11-21T19:30:00.250Z`.
pub(crate) fn text(time: Timestamp) -> String {
    let days = time.seconds.div_euclid(DAY_SECONDS) + ERA_DAYS;
    let second = time.seconds.rem_euclid(DAY_SECONDS);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second, millis) =
        (second / 3600, second / 60 % 60, second % 60, time.nanos / 1_000_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Reads what [`text`] writes, with any offset from UTC and any fraction. A moment without a fraction is the whole second's end:
/// what is written down as a second lies within it.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    let wrong =
        || format!("\"{text}\" is no moment such as 2026-11-21T19:30:00Z or 2026-11-21T20:30:00+01:00");
    read(text).ok_or_else(wrong)
}

fn read(text: &str) -> Option<Timestamp> {
    let (date, clock) = text.split_once(['T', 't', ' '])?;
    let (year, month, day) = three(date, '-')?;
    let at = clock.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = clock.split_at(at);
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let seconds = number(hours, 23)? * 3600 + number(minutes, 59)? * 60;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "999999999"));
    let (hour, minute, second) = three(clock, ':')?;
    let is_clock = hour < 24 && minute < 60 && second < 60;
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && (1970..=9999).contains(&year);
    let is_fraction =
        (1..=9).contains(&fraction.len()) && fraction.bytes().all(|digit| digit.is_ascii_digit());
    if !(is_clock && is_date && is_fraction) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    let shifted_year = year - i64::from(month <= 2);
    let (era, year_of_era) = (shifted_year.div_euclid(400), shifted_year.rem_euclid(400));
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - ERA_DAYS;
    let seconds = days * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset;
    Some(Timestamp { seconds, nanos })
}

/// From when on something is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So many seconds before now.
    Ago(i64),
    /// A moment.
    Moment(Timestamp),
}

impl Since {
    /// As seconds since 1970.
    pub(crate) fn seconds(self, now: Timestamp) -> i64 {
        match self {
            Self::Ago(seconds) => now.seconds.saturating_sub(seconds),
            Self::Moment(moment) => moment.seconds,
        }
    }
}

/// Reads `90s`, `10m`, `2h`, `3d`, or a moment.
pub(crate) fn since(text: &str) -> Result<Since, String> {
    let unit = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        Some(b'd') => DAY_SECONDS,
        _ => {
            return parse(text)
                .map(Since::Moment)
                .map_err(|error| format!("{error}, nor a span such as 10m"));
        }
    };
    let count = number(&text[..text.len() - 1], i64::from(u32::MAX));
    count
        .map(|count| Since::Ago(count * unit))
        .ok_or_else(|| format!("\"{text}\" is no span such as 90s, 10m, 2h, 3d"))
}

fn three(text: &str, between: char) -> Option<(i64, i64, i64)> {
    let mut parts = text.split(between).map(|part| number(part, 9999));
    let three = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(three)
}

fn number(text: &str, largest: i64) -> Option<i64> {
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let number = if is_number { text.parse().ok() } else { None };
    number.filter(|number| *number <= largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: u32) -> Timestamp {
        Timestamp { seconds, nanos }
    }

    #[test]
    fn moments_are_read_back() {
        for seconds in [0, 951_782_399, 951_782_400, 1_709_164_800, 1_795_289_400, 4_102_444_799] {
            assert_eq!(parse(&text(at(seconds, 250_000_000))), Ok(at(seconds, 250_000_000)));
        }
        assert_eq!(text(at(1_795_289_400, 1_000_000)), "2026-11-21T19:30:00.001Z");
    }

    #[test]
    fn offsets_count_and_a_second_is_meant_whole() {
        assert_eq!(parse("1970-01-01T01:00:00.5+01:00"), Ok(at(0, 500_000_000)));
        assert_eq!(parse("1970-01-01 00:00:07Z"), Ok(at(7, 999_999_999)));
        assert_eq!(parse("1970-01-01T00:00:00.25-00:30"), Ok(at(1800, 250_000_000)));
    }

    #[test]
    fn spans_and_moments_are_told_apart() {
        assert_eq!(since("10m"), Ok(Since::Ago(600)));
        assert_eq!(since("3d"), Ok(Since::Ago(3 * DAY_SECONDS)));
        assert_eq!(Since::Ago(600).seconds(at(1000, 5)), 400);
        assert!(matches!(since("2026-11-21T19:30:00Z"), Ok(Since::Moment(_))));
        for text in ["m", "-1s", "10", "1.5h", "soon"] {
            assert!(since(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let texts = [
            "",
            "now",
            "2026-11-21",
            "2026-13-21T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T00:00:00",
            "2026-11-21T00:00:00.Z",
        ];
        for text in texts {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
