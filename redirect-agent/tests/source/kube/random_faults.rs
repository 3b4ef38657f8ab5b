//! Random changes and faults. A failure message has the seed.

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::IndexedRandom as _};
use redirect_fake_apiserver::{ApiServer, Cluster, ListAnswer, WatchAnswer};

use super::{fixture::pod, listener::Listener};

const SEEDS: u64 = 40;
const STEPS: usize = 60;
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn change(cluster: &mut Cluster, random: &mut ChaCha8Rng) {
    let name = NAMES.choose(random).unwrap();
    match random.random_range(0..10) {
        0..5 => {
            let port = ["1", "2", "http"].choose(random).unwrap();
            cluster.apply(pod(name, port));
        }
        5..8 => cluster.delete(&format!("shop/{name}")),
        8 => cluster.bookmark(),
        _ => cluster.compact(),
    }
}

fn fault(cluster: &mut Cluster, random: &mut ChaCha8Rng) {
    let statuses = [403, 410, 429, 500, 503, 504];
    let status = *statuses.choose(random).unwrap();
    let size = random.random_range(1..4);
    let mut later = ChaCha8Rng::seed_from_u64(random.random());
    let between = move |cluster: &mut Cluster| (0..4).for_each(|_| change(cluster, &mut later));
    match random.random_range(0..11) {
        0 => cluster.answer_next_list(ListAnswer::Status(status)),
        1 => cluster.answer_next_list(ListAnswer::Paged(size)),
        2 => cluster.answer_next_list(ListAnswer::PagedWithChange(size, Box::new(between))),
        3 => cluster.answer_next_list(ListAnswer::ExpiredContinue(size)),
        4 => cluster.answer_next_list(ListAnswer::Disconnect),
        5 => cluster.answer_next_watch(WatchAnswer::Status(status)),
        6 => cluster.answer_next_watch(WatchAnswer::ErrorEvent(status)),
        7 => cluster.answer_next_watch(WatchAnswer::Close),
        8 => cluster.answer_next_watch(WatchAnswer::Disconnect),
        9 => cluster.answer_next_watch(WatchAnswer::Duplicate),
        _ => cluster.answer_next_watch(WatchAnswer::MalformedEvent),
    }
}

#[tokio::test]
async fn random_faults_end_in_agreement() {
    for seed in 0..SEEDS {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let server = ApiServer::start().unwrap();
        let mut listener = Listener::new(&server);
        listener.note = format!("seed {seed}");
        for _ in 0..STEPS {
            match random.random_range(0..20) {
                0..10 => server.with(|cluster| change(cluster, random)),
                10..13 => server.with(|cluster| fault(cluster, random)),
                13 => server.disconnect(),
                14 => server.down(),
                15 => server.up(),
                _ => listener.while_there_is_something().await,
            }
        }
        server.up();
        listener.until_in_sync().await;
    }
}
