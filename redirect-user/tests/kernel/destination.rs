//! The original destination that a proxy sees. It belongs to the connection, not to the socket.

use anyhow::ensure;
use redirect_testkit::{Behaviour, Dial, DialOutcome, DialSequence, Serve, cases};

use crate::{
    Cases, Needs, Tested,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, OUT_PORT, Redirected, Scene, Server, at, moved},
    sockets::{check, everywhere, is_quiet, settings},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        a_reused_socket_forgets_its_first_destination,
        a_connected_socket_keeps_its_destination,
        a_destination_is_told_any_number_of_times,
        a_direct_dial_to_the_capture_port_is_told_as_conntrack_does,
    ],
};

fn a_reused_socket_forgets_its_first_destination() -> Tested {
    let pod = Redirected::new("reused", &settings())?;
    let app = pod.scene.dialer(1000, 1000)?;
    let first = Dial::to(at(ELSEWHERE_V4, 80));
    for (second, who) in [
        (Dial::to(at(ELSEWHERE_V4, 443)), Server::Out),
        (Dial::to(at(FAR_V4, 80)), Server::World),
        (Dial::to(at("10.77.0.2", 8080)), Server::App),
    ] {
        let sequence = DialSequence {
            first: first.clone(),
            disconnect: true,
            second,
        };
        let (before, after) = app.dial_sequence(&sequence)?;
        check(Server::Out, &sequence.first, &before)?;
        check(who, &sequence.second, &after)?;
    }
    for (capture, first) in [
        ("127.0.0.1", first),
        ("::1", Dial::to(at(ELSEWHERE_V6, 80))),
    ] {
        let second = Dial::to(at(capture, OUT_PORT));
        let (_, direct) = app.dial_sequence(&DialSequence {
            first,
            disconnect: true,
            second,
        })?;
        let capture = Some(at(capture, OUT_PORT));
        ensure!(
            (direct.orig_dst(), direct.peername) == (capture, capture),
            "the second connection carries the first one's destination: {direct:?}"
        );
    }
    ensure!(is_quiet(&pod), "{} flows are left", pod.flows()?);
    Ok(())
}

fn a_connected_socket_keeps_its_destination() -> Tested {
    let pod = Redirected::new("connected", &settings())?;
    let before = pod.hits()?;
    let sequence = DialSequence {
        first: Dial::to(at(ELSEWHERE_V4, 80)),
        disconnect: false,
        second: Dial::to(at(FAR_V4, 80)),
    };
    let (first, second) = pod.scene.dialer(1000, 1000)?.dial_sequence(&sequence)?;
    check(Server::Out, &sequence.first, &first)?;
    ensure!(
        matches!(&second.outcome, DialOutcome::Failed { name, .. } if name == "EISCONN"),
        "{second:?}"
    );
    let counted = moved(&before, &pod.hits()?);
    ensure!(counted.iter().eq([(&"any-included", &1)]), "{counted:?}");
    Ok(())
}

fn a_destination_is_told_any_number_of_times() -> Tested {
    let pod = Redirected::attach("asked", Scene::without_proxy("asked")?, &settings())?;
    for (name, any) in [("out4:15001", "0.0.0.0"), ("out6:15001", "::")] {
        let asks = Serve::new(name, at(any, OUT_PORT)).behaviour(Behaviour::BannerAndQueries);
        pod.scene.proxy.serve(&asks)?;
    }
    for dial in everywhere() {
        let dialled = pod.scene.dial_as(1000, 1000, &dial)?;
        check(Server::Out, &dial, &dialled)?;
        let queries = dialled
            .banner()
            .map(|banner| banner.orig_dst_queries.clone())
            .unwrap_or_default();
        ensure!(
            queries.len() == if dial.to.is_ipv4() { 6 } else { 4 },
            "{queries:?}"
        );
        for query in queries {
            ensure!(query.answer == Ok(Some(dial.to)), "{query:?}");
            ensure!(
                query.length <= query.buffer && query.length >= 16,
                "{query:?}"
            );
        }
    }
    Ok(())
}

fn a_direct_dial_to_the_capture_port_is_told_as_conntrack_does() -> Tested {
    let pod = Redirected::new("direct", &settings())?;
    for own in ["127.0.0.1", "10.77.0.2", "::1", "fd00:77::2"] {
        let to = at(own, OUT_PORT);
        let dialled = pod.scene.dial_as(1000, 1000, &Dial::to(to))?;
        ensure!(
            (dialled.orig_dst(), dialled.peername) == (Some(to), Some(to)),
            "{dialled:?}"
        );
    }
    Ok(())
}
