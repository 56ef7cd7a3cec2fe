//! Which of the origin's addresses a request goes to; pure.
//!
//! The one with the fewest requests under way: an address that is slow for whatever reason keeps its requests for longer, and so
//! is given fewer, with nothing measured and nothing to configure. Where several have as few, they take turns.

use super::health::Standing;

/// An address as it stands when a request is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) standing: Standing,
    pub(super) under_way: usize,
}

/// Chooses one of so many candidates, beginning with the one whose `turn` it is. One that is due for a trial is given it: without
/// requests it would never be found well again. Where all are unwell they are used as if all were well.
pub(super) fn choose(number: usize, turn: usize, look: impl Fn(usize) -> Candidate) -> (usize, Standing) {
    let in_turn = in_turn(number, turn).map(|index| (index, look(index)));
    let chosen = in_turn.min_by_key(|(_, candidate)| (candidate.standing, candidate.under_way));
    let (index, candidate) = chosen.expect("there is at least one address");
    (index, candidate.standing)
}

/// Chooses another one after the first could not be connected to; `None` if there is none but it. The request has waited once, so
/// it is no trial.
pub(super) fn choose_other(number: usize, turn: usize, first: usize, look: impl Fn(usize) -> Candidate) -> Option<usize> {
    in_turn(number, turn).filter(|index| *index != first).min_by_key(|index| {
        let Candidate { standing, under_way } = look(*index);
        (standing != Standing::Well, under_way)
    })
}

fn in_turn(number: usize, turn: usize) -> impl Iterator<Item = usize> {
    (0..number).map(move |step| (turn % number + step) % number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Due, Unwell, Well};

    fn among(candidates: &[(Standing, usize)]) -> impl Fn(usize) -> Candidate {
        move |index| Candidate { standing: candidates[index].0, under_way: candidates[index].1 }
    }

    #[test]
    fn the_one_with_the_fewest_requests_is_chosen_and_equals_take_turns() {
        let check = |candidates: &[(Standing, usize)], turn: usize, expected: usize| {
            let (chosen, standing) = choose(candidates.len(), turn, among(candidates));
            assert_eq!((chosen, standing), (expected, candidates[expected].0), "{candidates:?} at {turn}");
        };
        check(&[(Well, 9)], 0, 0);
        check(&[(Well, 9)], usize::MAX, 0);
        check(&[(Well, 2), (Well, 1), (Well, 3)], 0, 1);
        for turn in 0..6 {
            check(&[(Well, 1), (Well, 1), (Well, 1)], turn, turn % 3);
        }
        check(&[(Well, 1), (Well, 0), (Well, 0)], 0, 1);
        check(&[(Well, 1), (Well, 0), (Well, 0)], 2, 2);
        check(&[(Unwell, 0), (Well, 7)], 0, 1);
        check(&[(Due, 5), (Well, 0)], 1, 0);
        check(&[(Unwell, 4), (Unwell, 3)], 0, 1);
    }

    #[test]
    fn the_other_one_is_a_well_one_if_there_is_one() {
        let check = |candidates: &[(Standing, usize)], first: usize, expected: Option<usize>| {
            assert_eq!(choose_other(candidates.len(), first, first, among(candidates)), expected, "{candidates:?} after {first}");
        };
        check(&[(Well, 0)], 0, None);
        check(&[(Well, 0), (Well, 9)], 0, Some(1));
        check(&[(Well, 0), (Unwell, 0), (Well, 9)], 0, Some(2));
        check(&[(Well, 0), (Due, 0), (Well, 9)], 0, Some(2));
        check(&[(Well, 0), (Due, 3), (Unwell, 2)], 0, Some(2));
    }
}
