//! Numbers that look random and are the same in every run.

/// A generator (SplitMix64): small, fast, and good enough for everything but secrets.
pub(super) struct Random(u64);

/// A skewed choice: the second is chosen about half as often as the first, the third a third as often, and so on.
pub(super) struct Zipf {
    /// The probability that one of the first so many is chosen.
    cumulative: Vec<f64>,
}

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number of the range, its end excluded.
    pub(super) fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from).max(1)
    }

    /// A number from 0 to 1, its end excluded.
    pub(super) fn unit(&mut self) -> f64 {
        // A double has 53 bits of precision.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn pick<'a>(&mut self, among: &[&'a str]) -> &'a str {
        among[self.within(0, among.len() as u64) as usize]
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Zipf {
    /// A choice among so many; the larger the exponent, the more go to the first.
    pub(super) fn new(count: usize, exponent: f64) -> Zipf {
        let mut cumulative = Vec::with_capacity(count);
        let mut sum = 0.0;
        for rank in 1..=count {
            sum += (rank as f64).powf(-exponent);
            cumulative.push(sum);
        }
        cumulative.iter_mut().for_each(|up_to| *up_to /= sum);
        Zipf { cumulative }
    }

    /// Chooses one: a number below the count.
    pub(super) fn choose(&self, random: &mut Random) -> usize {
        let drawn = random.unit();
        // Rounding may leave the last sum a little below 1.
        self.cumulative.partition_point(|up_to| *up_to <= drawn).min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [random.next(), random.within(10, 20), random.within(5, 5)]
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        // The generator's reference output.
        assert_eq!(Random::new(1_234_567).next(), 6_457_827_717_110_365_317);
    }

    #[test]
    fn numbers_stay_within_their_range() {
        let mut random = Random::new(7);
        for _ in 0..1000 {
            assert!((50..60).contains(&random.within(50, 60)));
            assert!((0.0..1.0).contains(&random.unit()));
        }
    }

    #[test]
    fn the_first_is_chosen_most_often() {
        let (zipf, mut random) = (Zipf::new(300, 0.99), Random::new(7));
        let mut chosen = vec![0_u32; 300];
        for _ in 0..100_000 {
            chosen[zipf.choose(&mut random)] += 1;
        }
        // The sum of 1/rank^0.99 up to 300 is 6.45: the first gets 15.5 %, the second half of that.
        assert!((14_900..16_100).contains(&chosen[0]), "{}", chosen[0]);
        assert!((7_400..8_200).contains(&chosen[1]), "{}", chosen[1]);
        assert!(chosen.iter().all(|count| *count > 0));
        assert!(chosen[..30].iter().sum::<u32>() > 60_000);
    }

    #[test]
    fn one_alone_is_always_chosen() {
        assert_eq!(Zipf::new(1, 0.99).choose(&mut Random::new(7)), 0);
    }
}
