//! The generator of one random policy and its flows.

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::IndexedRandom as _};

/// A generator of one policy of a run, and its flows.
#[derive(Debug)]
pub(in crate::flows) struct Generator {
    pub(super) rng: ChaCha8Rng,
}

impl Generator {
    /// Makes the generator of policy `number` of a seed. Its values do not depend on other policies.
    pub(in crate::flows) fn new(seed: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        Self { rng }
    }

    pub(super) fn one<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.rng).expect("something to choose from")
    }

    /// Returns true once in `n` times.
    pub(super) fn once_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    pub(super) fn several<T>(&mut self, most: usize, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.rng.random_range(0..=most);
        (0..count).map(|_| one(self)).collect()
    }
}
