// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dials of every kind reach the server at their destination.

use std::{net::IpAddr, time::Duration};

use anyhow::bail;
use redirect_testkit::{
    Behaviour, Dial, DialOutcome, DialSequence, HttpGet, Identity, Mode, Pod, Serve,
};

use crate::{FAR_V4, FAR_V6, Tested, at, pod_and_far};

pub(crate) fn the_server_at_an_address_answers_there() -> Tested {
    let (pod, app, far) = pod_and_far("answers", 80)?;
    let near = pod.worker(&Identity::app())?;
    near.serve(&Serve::new("near", at("0.0.0.0", 8080)))?;

    let dialled = app.dial(&Dial::to(at(FAR_V4, 80)))?;
    assert_eq!(dialled.server(), Some("far4"));
    assert_eq!(dialled.peername, Some(at(FAR_V4, 80)));
    assert_eq!(dialled.sockname, dialled.banner().unwrap().peer);
    assert_eq!(dialled.sockname.unwrap().ip(), IpAddr::V4(Pod::V4));
    assert_eq!(far.accepted("far4")?.connections, 1);

    let bound = Dial::to(at("127.0.0.1", 8080)).from(at("127.0.0.6", 0));
    let dialled = app.dial(&bound)?;
    assert_eq!(dialled.server(), Some("near"));
    assert_eq!(dialled.sockname.unwrap().ip(), at("127.0.0.6", 0).ip());
    Ok(())
}

pub(crate) fn ipv6_and_mapped_dials_reach_their_servers() -> Tested {
    let (_pod, app, _far) = pod_and_far("ipv6", 80)?;
    let dialled = app.dial(&Dial::to(at(FAR_V6, 80)))?;
    assert_eq!(dialled.server(), Some("far6"));
    assert_eq!(dialled.sockname.unwrap().ip(), IpAddr::V6(Pod::V6));
    assert_eq!(
        app.dial(&Dial::to(at("fd00:77::1", 80)))?.server(),
        Some("far6")
    );
    let mapped = app.dial(&Dial::to(at(FAR_V4, 80)).mapped())?;
    assert_eq!(
        (mapped.server(), mapped.peername),
        (Some("far4"), Some(at(FAR_V4, 80)))
    );
    Ok(())
}

pub(crate) fn every_mode_connects() -> Tested {
    let (_pod, app, far) = pod_and_far("modes", 80)?;
    far.serve(&Serve::new("echo", at("0.0.0.0", 9000)).behaviour(Behaviour::BannerAndEcho))?;
    for mode in [
        Mode::Blocking,
        Mode::NonBlocking,
        Mode::FastOpen,
        Mode::FastOpenConnect,
    ] {
        let dialled = app.dial(&Dial::to(at(FAR_V4, 9000)).mode(mode).echo("over and out"))?;
        assert_eq!(dialled.server(), Some("echo"), "{mode:?}: {dialled:?}");
        assert_eq!(
            dialled.echoed.as_deref(),
            Some(b"over and out".as_slice()),
            "{mode:?}"
        );
        let dialled = app.dial(&Dial::to(at(FAR_V6, 80)).mode(mode))?;
        assert_eq!(dialled.server(), Some("far6"), "{mode:?}: {dialled:?}");
    }
    far.serve(&Serve::new("datagrams", at(FAR_V4, 53)).behaviour(Behaviour::Udp))?;
    let dialled = app.dial(&Dial::to(at(FAR_V4, 53)).mode(Mode::Udp))?;
    assert_eq!(
        (dialled.server(), dialled.peername),
        (Some("datagrams"), Some(at(FAR_V4, 53)))
    );
    Ok(())
}

pub(crate) fn a_closed_port_is_refused_and_a_dead_address_times_out() -> Tested {
    let (_pod, app, _far) = pod_and_far("closed", 80)?;
    for mode in [
        Mode::Blocking,
        Mode::NonBlocking,
        Mode::FastOpen,
        Mode::FastOpenConnect,
    ] {
        let refused = app.dial(&Dial::to(at(FAR_V4, 81)).mode(mode))?;
        assert_eq!(refused.outcome, DialOutcome::Refused, "{mode:?}");
        // 10.77.0.9 is on the link, but no host has the address.
        let dead = Dial::to(at("10.77.0.9", 80))
            .mode(mode)
            .timeout(Duration::from_millis(100));
        let DialOutcome::Failed { name, .. } = app.dial(&dead)?.outcome else {
            bail!("{mode:?}: a dead address did not fail");
        };
        assert_eq!(name, "ETIMEDOUT", "{mode:?}");
    }
    Ok(())
}

pub(crate) fn a_socket_dials_again_after_af_unspec() -> Tested {
    let (_pod, app, far) = pod_and_far("again", 80)?;
    far.serve(&Serve::new("other", at(FAR_V4, 81)))?;
    let mut sequence = DialSequence {
        first: Dial::to(at(FAR_V4, 80)),
        disconnect: true,
        second: Dial::to(at(FAR_V4, 81)),
    };
    let (first, second) = app.dial_sequence(&sequence)?;
    assert_eq!(
        (first.server(), second.server()),
        (Some("far4"), Some("other"))
    );
    sequence.disconnect = false;
    let (first, second) = app.dial_sequence(&sequence)?;
    assert_eq!(first.server(), Some("far4"));
    assert!(
        matches!(second.outcome, DialOutcome::Failed { ref name, .. } if name == "EISCONN"),
        "{second:?}"
    );
    Ok(())
}

pub(crate) fn http_is_answered_with_the_servers_name() -> Tested {
    let (pod, app, far) = pod_and_far("http", 9000)?;
    far.serve(&Serve::new("web", at("0.0.0.0", 80)).behaviour(Behaviour::Http))?;
    let answer = app.http_get(
        &HttpGet::to(at(FAR_V4, 80))
            .path("/x")
            .host("www.example.org"),
    )?;
    assert_eq!((answer.status(), answer.server()), (Some(200), Some("web")));
    let banner = answer.banner().expect("a banner as body");
    assert_eq!(banner.local, Some(at(FAR_V4, 80)));
    assert_eq!(banner.peer.unwrap().ip(), IpAddr::V4(Pod::V4));
    drop(pod);
    Ok(())
}
