//! What the table says, for given samples.

use super::*;

fn milliseconds(durations: impl IntoIterator<Item = u64>) -> Vec<Duration> {
    durations.into_iter().map(Duration::from_millis).collect()
}

fn measured(samples: &[(Source, u64)]) -> Measured {
    let samples = Endpoint::ALL.iter().flat_map(|endpoint| {
        let sample = |(source, micros): &(Source, u64)| Sample {
            endpoint: *endpoint,
            source: *source,
            latency: Duration::from_micros(*micros),
        };
        samples.iter().map(sample)
    });
    Measured { samples: samples.collect(), ..Measured::default() }
}

fn report(hit_micros: u64) -> Report {
    Report {
        without: measured(&[(Source::Origin, 80_000)]),
        with: measured(&[(Source::Memory, hit_micros), (Source::Memory, hit_micros), (Source::Origin, 80_400)]),
        forwarded: [1, 0],
        has_redis: false,
    }
}

#[test]
fn a_percentile_is_the_nearest_rank() {
    let check = |durations: Vec<Duration>, percent, expected: Option<u64>| {
        assert_eq!(Latencies(durations).percentile(percent), expected.map(Duration::from_millis));
    };
    check(vec![], 50, None);
    check(milliseconds([7]), 0, Some(7));
    check(milliseconds([7]), 99, Some(7));
    check(milliseconds([1, 2]), 50, Some(1));
    check(milliseconds([1, 2, 3]), 50, Some(2));
    check(milliseconds(1..=100), 50, Some(50));
    check(milliseconds(1..=100), 99, Some(99));
    check(milliseconds(1..=101), 99, Some(100));
    check(milliseconds(1..=100), 100, Some(100));
}

#[test]
fn samples_are_sorted_and_averaged() {
    let measured = measured(&[(Source::Origin, 3000), (Source::Origin, 1000), (Source::Memory, 9)]);
    let latencies = Latencies::of(&measured, |sample| sample.source == Source::Origin && sample.endpoint == Endpoint::Customer);
    assert_eq!(latencies.0, milliseconds([1, 3]));
    assert_eq!(latencies.mean(), Some(Duration::from_millis(2)));
    assert_eq!(Latencies(Vec::new()).mean(), None);
}

#[test]
fn the_columns_of_the_table_are_aligned() {
    let expected = "
                                            customer    churn-risk
  ────────────────────────────────────────────────────────────────
  without the cache
    requests                                       1             1
    p50                                      80.0 ms       80.0 ms
    p99                                      80.0 ms       80.0 ms
  with the cache, from its cold start on
    requests                                       3             3
    p50                                      0.20 ms       0.20 ms
    p99                                      80.4 ms       80.4 ms
    p50 of hits                              0.20 ms       0.20 ms
    p99 of hits                              0.20 ms       0.20 ms
  times faster
    a hit (p50)                                 400×          400×
    all requests (mean)                         3.0×          3.0×
  answered from
    memory                                         2             2
    another's fetch (collapsed)                    0             0
    the origin                                     1             1
  the origin
    requests it got                                1             0
    requests it was spared                    66.7 %       100.0 %
  ────────────────────────────────────────────────────────────────
";
    assert_eq!(format!("\n{}", report(200).table()), expected);
}

#[test]
fn redis_has_lines_of_its_own() {
    let mut report = report(200);
    report.has_redis = true;
    let table = report.table();
    assert!(table.contains("    p99 of hits in Redis                           –             –\n"), "{table}");
    assert!(table.contains("    Redis                                          0             0\n"), "{table}");
}

#[test]
fn the_verdict_is_honest() {
    let expected = "  ✓ a hit is at least 50 times faster at p50: 400× and 400×
  ✓ p99 of a hit is under 5 ms: 0.20 ms and 0.20 ms
  ✓ 8 of 8 responses are what the origin has for their path, octet for octet
";
    assert_eq!(report(200).verdict(), expected);
    assert!(report(200).is_right());

    let mut slow = report(8_000);
    slow.with.wrong = 2;
    slow.with.failed = 1;
    slow.with.trouble = Some("http://a/b: 502 Bad Gateway".to_owned());
    let expected = "  ✗ missed: a hit is at least 50 times faster at p50: 10× and 10×
  ✗ missed: p99 of a hit is under 5 ms: 8.00 ms and 8.00 ms
  ✗ missed: 8 of 11 responses are what the origin has for their path, octet for octet
    with the cache, 2 were wrong and 1 failed, such as http://a/b: 502 Bad Gateway
";
    assert_eq!(slow.verdict(), expected);
    assert!(!slow.is_right());
}

#[test]
fn numbers_are_written_for_people() {
    let check = |number, expected: &str| assert_eq!(thousands(number), expected);
    check(0, "0");
    check(999, "999");
    check(1_000, "1,000");
    check(1_234_567, "1,234,567");
    let check = |micros, expected: &str| assert_eq!(span(Some(Duration::from_micros(micros))), expected);
    check(123, "0.12 ms");
    check(12_345, "12.3 ms");
    check(123_456, "123 ms");
    assert_eq!(times(2.345), "2.3×");
    assert_eq!(times(1_234.5), "1,234×");
}
