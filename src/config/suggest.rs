//! "Did you mean": the nearest of the names that are known.

/// Finds the name that `written` most likely stands for, if one is near enough.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // `max-size` and `maxSize` are `max_size`: two steps at most, or a third of a long word, are a slip and not another word.
    let plain: String = written.chars().take(LENGTH_MAX).filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| (distance(&plain, &name.replace('_', "")), name))
        .filter(|(steps, name)| *steps <= (name.len() / 3).clamp(1, 3))
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, name)| name)
}

/// Counts the letters to insert, delete, replace or swap with their neighbour to get from one word to the other.
///
/// The table of the textbook (optimal string alignment), of which three rows are enough: cell `(i, j)` is the distance
/// between the first `i` letters of one word and the first `j` of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let differs = usize::from(one[i - 1] != other[j - 1]);
            let mut steps = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + differs);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                steps = steps.min(before[j - 2] + 1);
            }
            row.push(steps);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[other.len()]
}

/// No known name is longer, and the table grows with the square of it.
const LENGTH_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_another_word_is_not() {
        let known = ["url", "budget", "max_size", "when_down", "connect_timeout", "ttl"];
        let check = |written, expected| assert_eq!(nearest(written, known), expected, "{written}");
        check("bugdet", Some("budget"));
        check("buget", Some("budget"));
        check("max-size", Some("max_size"));
        check("maxSize", Some("max_size"));
        check("conect_timout", Some("connect_timeout"));
        check("ttll", Some("ttl"));
        check("uri", Some("url"));
        check("password", None);
        check("", None);
        check("x", None);
    }

    #[test]
    fn the_distance_counts_steps() {
        let check = |one, other, expected| assert_eq!(distance(one, other), expected, "{one} {other}");
        check("", "", 0);
        check("", "abc", 3);
        check("abc", "abc", 0);
        check("abc", "acb", 1);
        check("kitten", "sitting", 3);
    }
}
