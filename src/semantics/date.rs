//! The three legal forms of a date (RFC 9110 §5.6.7).

use bytes::Bytes;
use http::HeaderValue;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Parses a date strictly, with names and zone in any case; anything else is `None`, which for `Expires` means stale.
///
/// `httpdate` knows the three forms and the days of each month, but names only in the usual case, and it trims. It wants the weekday to be
/// the right one, too; that says nothing which the date does not, and senders are known that count it wrong.
pub fn parse(value: &HeaderValue) -> Option<SystemTime> {
    let octets = value.as_bytes();
    let mut usual = [0; LENGTH_MAX];
    let usual = usual.get_mut(..octets.len())?;
    let mut is_inside_word = false;
    for (usual, octet) in usual.iter_mut().zip(octets) {
        *usual = if is_inside_word { octet.to_ascii_lowercase() } else { octet.to_ascii_uppercase() };
        is_inside_word = octet.is_ascii_alphabetic();
    }
    if usual.ends_with(b" Gmt") {
        let zone = usual.len() - 3;
        usual[zone..].make_ascii_uppercase();
    }
    let text = std::str::from_utf8(usual).ok().filter(|text| text.trim_ascii().len() == text.len())?;
    httpdate::parse_http_date(text).ok().or_else(|| parse_with_another_weekday(text))
}

fn parse_with_another_weekday(text: &str) -> Option<SystemTime> {
    let end = text.find(|sign: char| !sign.is_ascii_alphabetic())?;
    let (written, rest) = text.split_at(end);
    let is_long = WEEKDAYS.contains(&written);
    if !is_long && !WEEKDAYS.iter().any(|name| name[..3] == *written) {
        return None;
    }
    let names = WEEKDAYS.iter().map(|name| if is_long { name } else { &name[..3] });
    names.map(|name| format!("{name}{rest}")).find_map(|text| httpdate::parse_http_date(&text).ok())
}

/// Writes a date in the form that is to be generated, IMF-fixdate.
pub fn format(time: SystemTime) -> HeaderValue {
    let time = time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST);
    HeaderValue::from_maybe_shared(Bytes::from(httpdate::fmt_http_date(time))).expect("a date is visible ASCII")
}

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The longest legal date: `Wednesday, 06-Nov-94 08:49:37 GMT`.
const LENGTH_MAX: usize = 33;

/// The last second of the year 9999, the last that has a four-digit year.
const LAST: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(value: &str, expected: Option<u64>) {
        let parsed = parse(&HeaderValue::from_str(value).unwrap());
        assert_eq!(parsed, expected.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)), "{value}");
    }

    #[test]
    fn the_three_legal_forms_are_read() {
        // RFC 9110 §5.6.7
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Sun Nov 06 08:49:37 1994", Some(784_111_777));
        check("Wednesday, 01-Jan-70 00:00:00 GMT", Some(0)); // It was a Thursday.
        check("Thursday, 01-Jan-70 00:00:00 GMT", Some(0));
        check("Wednesday, 02-Nov-94 08:49:37 GMT", Some(783_766_177));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799));
        check("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800));
    }

    #[test]
    fn a_wrong_weekday_does_not_make_another_day() {
        check("Mon, 18 Aug 2050 02:01:18 GMT", Some(2_544_400_878));
        check("Monday, 18-Aug-50 02:01:18 GMT", Some(2_544_400_878));
        check("Thu Aug  8 02:01:18 2050", Some(2_543_536_878)); // A Monday.
        check("Foo, 18 Aug 2050 02:01:18 GMT", None);
        check("Thursday, 18 Aug 2050 02:01:18 GMT", None);
    }

    #[test]
    fn names_and_zone_are_read_in_any_case() {
        check("THU, 18 Aug 2050 02:01:18 GMT", Some(2_544_400_878));
        check("Thu, 18 AUG 2050 02:01:18 GMT", Some(2_544_400_878));
        check("Thu, 18 Aug 2050 02:01:18 gMT", Some(2_544_400_878));
        check("thursday, 18-aUG-50 02:01:18 gmt", Some(2_544_400_878));
        check("tHU aug 18 02:01:18 2050", Some(2_544_400_878));
    }

    #[test]
    fn what_is_almost_a_date_is_none() {
        for value in [
            "",
            "0",
            "-1",
            "784111777",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 2050 02:01:18 +0000",
            "Thu, 18 Aug 2050 02:01:18 GM",
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 2050 02:01:18GMT",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu,18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu,  18 Aug 2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 8 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Thu, 18 Aug 2050 02:60:18 GMT",
            "Thu, 00 Aug 2050 02:01:18 GMT",
            "Wed, 30 Feb 2050 02:01:18 GMT",
            "Thursday, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18-Aug-50 02:01:18 GMT",
            "Thu Aug 18 02:01:18 2050 GMT",
            "Thu Aug 18 2:01:18 2050",
            " Thu, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT ",
            "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        ] {
            check(value, None);
        }
        assert_eq!(parse(&HeaderValue::from_bytes(b"Thu, 18 Aug 2050 02:01:18 GM\xff").unwrap()), None);
    }

    #[test]
    fn a_date_is_written_in_the_first_form() {
        let check = |time: SystemTime, expected: &str| assert_eq!(format(time), expected);
        check(UNIX_EPOCH + Duration::from_secs(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        check(UNIX_EPOCH + Duration::from_millis(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
        check(UNIX_EPOCH - Duration::from_secs(1), "Thu, 01 Jan 1970 00:00:00 GMT");
        check(UNIX_EPOCH + Duration::from_secs(1 << 40), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(seconds in 0..=LAST.as_secs()) {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(parse(&format(time)), Some(time));
        }

        #[test]
        fn nothing_makes_the_parser_panic(text in "[A-Za-z]{3,9},? [0-9a-zA-Z :-]{0,30}") {
            parse(&HeaderValue::from_str(&text).unwrap());
        }
    }
}
