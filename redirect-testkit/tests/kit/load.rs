// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many connections at once: floods, measurements of the connect rate, and open connections.

use std::time::Duration;

use redirect_testkit::{
    Answer, Behaviour, Dial, DialOutcome, Flood, OpenConnections, Rate, Serve, wait_until,
};

use crate::{FAR_V4, Tested, at, pod_and_far};

pub(crate) fn fifty_thousand_connections_take_seconds() -> Tested {
    let (_pod, app, far) = pod_and_far("flood", 80)?;
    let mut flood =
        Flood::new("far4", [at(FAR_V4, 80), at("10.77.0.1", 80)], 50_000).without_orig_dst();
    let flooded = app.flood(&flood)?;
    assert!(flooded.is_all_right(50_000), "{flooded:?}");
    assert!(flooded.seconds < 30.0, "{flooded:?}");
    assert_eq!(far.accepted("far4")?.connections, 50_000);
    flood.connections = 10;
    flood.server = Some("another server".to_owned());
    assert_eq!(app.flood(&flood)?.wrong, 10);
    flood.destinations = vec![at(FAR_V4, 81)];
    assert_eq!(app.flood(&flood)?.refused, 10);

    far.serve(&Serve::new("bench", at("0.0.0.0", 82)).behaviour(Behaviour::QueryAndClose))?;
    let rate = Rate {
        to: at(FAR_V4, 82),
        destinations: 1,
        duration: Duration::from_millis(300),
        await_close: true,
    };
    let rated = app.connect_rate(&rate)?;
    assert!(
        rated.errors.is_empty() && rated.connections > 100 && rated.p50_ns <= rated.p99_ns,
        "{rated:?}"
    );
    assert_eq!(far.accepted("bench")?.connections, rated.connections);
    eprintln!(
        "{:.0} connections/s flooding, {:.0}/s one by one",
        50_000.0 / flooded.seconds,
        rated.per_second()
    );
    Ok(())
}

pub(crate) fn open_connections_are_counted() -> Tested {
    let (_pod, app, far) = pod_and_far("open", 80)?;
    far.serve(
        &Serve::new("deaf", at(FAR_V4, 90))
            .behaviour(Behaviour::NeverAccept)
            .backlog(4),
    )?;
    app.open_connections(&OpenConnections {
        to: at(FAR_V4, 90),
        bind: None,
        count: 12,
    })?;
    // A backlog of 4 takes 5 connections; the others wait for a SYN-ACK.
    assert!(wait_until(Duration::from_secs(5), || app
        .connection_counts()
        .unwrap()
        .established
        >= 5));
    let counts = app.connection_counts()?;
    assert_eq!(
        (counts.established + counts.in_progress, counts.refused),
        (12, 0),
        "{counts:?}"
    );
    assert!(counts.in_progress > 0, "{counts:?}");
    app.close_connections()?;
    assert_eq!(app.connection_counts()?.established, 0);
    let silent = app.dial(&Dial::to(at(FAR_V4, 80)).without_banner())?;
    assert_eq!(silent.outcome, DialOutcome::Connected(Answer::NotAwaited));
    Ok(())
}
