// SPDX-License-Identifier: MIT OR Apache-2.0
//! Istio's own rules in real iptables give the redirections that were observed with Istio.

use redirect_testkit::{
    Dial, Flood, Identity, Mode, Serve, Worker,
    iptables::{self, Backend, Family, IstioRules},
};

use crate::{FAR_V4, FAR_V6, Tested, at, pod_and_far};

pub(crate) fn legacy_iptables_redirect_as_istio_says() -> Tested {
    istio_redirects(Backend::Legacy)
}

pub(crate) fn nft_iptables_redirect_as_istio_says() -> Tested {
    istio_redirects(Backend::Nft)
}

fn istio_redirects(backend: Backend) -> Tested {
    let (pod, app, _far) = pod_and_far("istio", 80)?;
    let proxy = pod.worker(&Identity::proxy())?;
    proxy.serve(&Serve::new("outbound", at("0.0.0.0", 15001)))?;
    proxy.serve(&Serve::new("outbound6", at("::", 15001)))?;
    proxy.serve(&Serve::new("inbound", at("0.0.0.0", 15006)))?;
    let near = pod.worker(&Identity::app())?;
    near.serve(&Serve::new("near", at("0.0.0.0", 8080)))?;

    let mut rules = IstioRules::default();
    iptables::apply_istio(&pod, backend, &rules)?;
    let (v4, v6) = (at(FAR_V4, 80), at(FAR_V6, 80));
    outbound_is_redirected(&app)?;
    assert_eq!(
        app.dial(&Dial::to(at("10.77.0.2", 8080)))?.server(),
        Some("near")
    );
    assert_eq!(proxy.dial(&Dial::to(v4))?.server(), Some("far4"));
    let own = proxy.dial(&Dial::to(at("10.77.0.2", 8080)))?;
    assert_eq!(
        (own.server(), own.orig_dst()),
        (Some("inbound"), Some(at("10.77.0.2", 8080)))
    );
    let gid = pod.worker(&Identity::app().gid(1337))?;
    assert_eq!(gid.dial(&Dial::to(v4))?.server(), Some("far4"));
    let world = pod.world().worker(&Identity::root())?;
    assert_eq!(
        world.dial(&Dial::to(at("10.77.0.2", 8080)))?.server(),
        Some("inbound")
    );

    let flooded = app.flood(&Flood::new(
        "outbound",
        [v4, at(FAR_V4, 81), at("203.0.113.9", 443)],
        3000,
    ))?;
    assert!(flooded.is_all_right(3000), "{flooded:?}");
    assert!(proxy.accepted("outbound")?.redirected >= 3000);

    rules.exclude_cidrs = vec!["36.152.44.0/24".parse()?];
    iptables::apply_istio(&pod, backend, &rules)?;
    assert!(iptables::listing(&pod, backend, Family::V4)?.contains("-d 36.152.44.0/24 -j RETURN"));
    assert_eq!(app.dial(&Dial::to(v4))?.server(), Some("far4"));
    iptables::clear(&pod, backend)?;
    let direct = app.dial(&Dial::to(v6))?;
    assert_eq!(direct.server(), Some("far6"));
    Ok(())
}

fn outbound_is_redirected(app: &Worker) -> Tested {
    let (v4, v6) = (at(FAR_V4, 80), at(FAR_V6, 80));
    for mode in [
        Mode::Blocking,
        Mode::NonBlocking,
        Mode::FastOpen,
        Mode::FastOpenConnect,
    ] {
        for (to, server) in [(v4, "outbound"), (v6, "outbound6")] {
            let dialled = app.dial(&Dial::to(to).mode(mode))?;
            assert_eq!(
                (dialled.server(), dialled.orig_dst()),
                (Some(server), Some(to)),
                "{mode:?}: {dialled:?}"
            );
            assert_eq!(dialled.peername, Some(to));
            assert_eq!(dialled.sockname, dialled.banner().unwrap().peer);
        }
    }
    let mapped = app.dial(&Dial::to(v4).mapped())?;
    assert_eq!(
        (mapped.server(), mapped.orig_dst()),
        (Some("outbound"), Some(v4))
    );
    Ok(())
}
