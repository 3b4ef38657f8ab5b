//! The contract of sources, kept by the source of pods.

use redirect_fake_apiserver::ApiServer;

use crate::contract;

#[tokio::test]
async fn the_contract_is_kept() {
    let server = || ApiServer::start().unwrap();
    contract::begins_with_a_snapshot(&server()).await;
    contract::reports_every_change(&server()).await;
    contract::names_invalid_descriptions(&server()).await;
    contract::keeps_descriptions_while_unavailable(&server()).await;
    contract::loses_nothing_when_cancelled(&server()).await;
}
