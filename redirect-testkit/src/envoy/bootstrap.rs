// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration of Envoy, with the listeners of a real sidecar.
//!
//! `virtualOutbound` at 15001 takes every redirected connection, reads `SO_ORIGINAL_DST` and hands
//! the connection to the listener of its original port, such as `0.0.0.0_80`, which is never bound.
//! `virtualInbound` at 15006 dials the application from 127.0.0.6. All listen in both families, as
//! in Istio's dual stack mode: `::` beside `0.0.0.0`.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::admin::ADMIN_PORT;
use crate::outbound::{CAPTURE_PORT, OutboundPolicy};

/// The cluster of connections that `ALLOW_ANY` passes on.
pub(super) const PASSTHROUGH: &str = "PassthroughCluster";
/// The cluster of connections that are closed.
pub(super) const BLACK_HOLE: &str = "BlackHoleCluster";
/// The registered service's cluster under `REGISTRY_ONLY`.
pub(super) const REGISTERED: &str = "registered";
const INBOUND_PORT: u16 = 15006;
const HTTP_PORT: u16 = 80;
const INBOUND: &str = "InboundPassthroughClusterIpv4";
const INBOUND_V6: &str = "InboundPassthroughClusterIpv6";

/// The bootstrap under `ALLOW_ANY`, with the PROXY protocol (version 1) on every upstream connection.
pub(super) fn proxy_protocol() -> Value {
    let of = |kind: &str| format!("type.googleapis.com/envoy.extensions.transport_sockets.{kind}");
    let mut bootstrap = bootstrap(&OutboundPolicy::AllowAny);
    let clusters = bootstrap.pointer_mut("/static_resources/clusters");
    let clusters = clusters.and_then(Value::as_array_mut);
    for cluster in clusters.into_iter().flatten() {
        merge(
            cluster,
            json!({ "transport_socket": {
                "name": "envoy.transport_sockets.upstream_proxy_protocol",
                "typed_config": {
                    "@type": of("proxy_protocol.v3.ProxyProtocolUpstreamTransport"),
                    "config": { "version": "V1" },
                    "transport_socket": {
                        "name": "envoy.transport_sockets.raw_buffer",
                        "typed_config": { "@type": of("raw_buffer.v3.RawBuffer") },
                    },
                },
            } }),
        );
    }
    bootstrap
}

/// The whole bootstrap. Envoy accepts JSON where it accepts YAML.
pub(super) fn bootstrap(policy: &OutboundPolicy) -> Value {
    let http = match policy {
        OutboundPolicy::AllowAny => allow_any(),
        OutboundPolicy::RegistryOnly { registered } => registry_only(*registered),
    };
    json!({
        "node": { "id": "sidecar", "cluster": "testkit" },
        "admin": { "address": address("127.0.0.1", ADMIN_PORT) },
        "static_resources": {
            "listeners": [outbound(policy), http, inbound()],
            "clusters": clusters(),
        },
    })
}

/// The listener `virtualOutbound`. If a connection's original destination is the listener's own port, the client
/// dialled that port directly, or the original destination was lost: passing it on would loop for ever.
fn outbound(policy: &OutboundPolicy) -> Value {
    let unknown = match policy {
        OutboundPolicy::AllowAny => PASSTHROUGH,
        OutboundPolicy::RegistryOnly { .. } => BLACK_HOLE,
    };
    let mut listener = capture("virtualOutbound", "OUTBOUND", CAPTURE_PORT);
    merge(
        &mut listener,
        json!({
            "use_original_dst": true,
            "filter_chains": [direct(CAPTURE_PORT)],
            "default_filter_chain": { "name": "virtualOutbound-catchall-tcp", "filters": [tcp_proxy(unknown)] },
        }),
    );
    listener
}

fn inbound() -> Value {
    let ipv6 = json!({
        "name": "virtualInbound-catchall-ipv6",
        "filter_chain_match": { "prefix_ranges": [{ "address_prefix": "::", "prefix_len": 0 }] },
        "filters": [tcp_proxy(INBOUND_V6)],
    });
    let mut listener = capture("virtualInbound", "INBOUND", INBOUND_PORT);
    merge(
        &mut listener,
        json!({
            "filter_chains": [direct(INBOUND_PORT), ipv6],
            "default_filter_chain": { "name": "virtualInbound-catchall", "filters": [tcp_proxy(INBOUND)] },
        }),
    );
    listener
}

/// The listener of port 80 under `ALLOW_ANY`: any host passes.
fn allow_any() -> Value {
    let hosts = json!([{ "name": "allow_any", "domains": ["*"], "routes": [route(PASSTHROUGH)] }]);
    let mut listener = unbound(HTTP_PORT);
    merge(
        &mut listener,
        json!({ "default_filter_chain": { "name": "PassthroughFilterChain", "filters": [http(HTTP_PORT, &hosts)] } }),
    );
    listener
}

/// The listener of the registered service's port under `REGISTRY_ONLY`: the service's address has a filter chain,
/// and any other address ends in the black hole.
fn registry_only(registered: SocketAddr) -> Value {
    let (ip, port) = (registered.ip(), registered.port());
    let length = if ip.is_ipv6() { 128 } else { 32 };
    let hosts = json!([{ "name": REGISTERED, "domains": ["*"], "routes": [route(REGISTERED)] }]);
    let mut listener = unbound(port);
    merge(
        &mut listener,
        json!({
            "filter_chains": [{
                "name": "serviceentry",
                "filter_chain_match": { "prefix_ranges": [{ "address_prefix": ip, "prefix_len": length }] },
                "filters": [http(port, &hosts)],
            }],
            "default_filter_chain": { "name": "default_filter_match", "filters": [tcp_proxy(BLACK_HOLE)] },
        }),
    );
    listener
}

fn clusters() -> Value {
    // The first rule of ISTIO_OUTPUT lets 127.0.0.6 through on lo.
    let from = |address: &str| json!({ "source_address": address_of(address, 0) });
    let mut clusters =
        vec![json!({ "name": BLACK_HOLE, "type": "STATIC", "connect_timeout": "1s" })];
    for (name, source) in [
        (PASSTHROUGH, None),
        (REGISTERED, None),
        (INBOUND, Some("127.0.0.6")),
        (INBOUND_V6, Some("::6")),
    ] {
        let mut cluster = json!({
            "name": name,
            "type": "ORIGINAL_DST",
            "connect_timeout": "5s",
            "lb_policy": "CLUSTER_PROVIDED",
        });
        if let Some(source) = source {
            merge(
                &mut cluster,
                json!({ "upstream_bind_config": from(source) }),
            );
        }
        clusters.push(cluster);
    }
    Value::Array(clusters)
}

/// Makes a bound listener that asks for the original destination.
fn capture(name: &str, direction: &str, port: u16) -> Value {
    let mut listener = listener(name, direction, port);
    let filter =
        "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst";
    merge(
        &mut listener,
        json!({
            "listener_filters": [{
                "name": "envoy.filters.listener.original_dst",
                "typed_config": { "@type": filter },
            }],
        }),
    );
    listener
}

/// Makes a listener that receives only the connections that `virtualOutbound` hands over.
fn unbound(port: u16) -> Value {
    let mut listener = listener(&format!("0.0.0.0_{port}"), "OUTBOUND", port);
    merge(&mut listener, json!({ "bind_to_port": false }));
    listener
}

fn listener(name: &str, direction: &str, port: u16) -> Value {
    json!({
        "name": name,
        "traffic_direction": direction,
        "address": address("0.0.0.0", port),
        "additional_addresses": [{ "address": address("::", port) }],
    })
}

fn direct(port: u16) -> Value {
    json!({
        "name": "blackhole",
        "filter_chain_match": { "destination_port": port },
        "filters": [tcp_proxy(BLACK_HOLE)],
    })
}

fn tcp_proxy(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": cluster,
            "cluster": cluster,
        },
    })
}

fn http(port: u16, virtual_hosts: &Value) -> Value {
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": manager,
            "stat_prefix": format!("outbound_0.0.0.0_{port}"),
            "route_config": { "name": port.to_string(), "virtual_hosts": virtual_hosts },
            "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": { "@type": router } }],
        },
    })
}

fn route(cluster: &str) -> Value {
    json!({ "name": "default", "match": { "prefix": "/" }, "route": { "cluster": cluster, "timeout": "0s" } })
}

fn address(ip: &str, port: u16) -> Value {
    json!({ "socket_address": address_of(ip, port) })
}

fn address_of(ip: &str, port: u16) -> Value {
    json!({ "address": ip, "port_value": port })
}

/// Adds the fields of one object to another.
fn merge(into: &mut Value, fields: Value) {
    if let (Value::Object(into), Value::Object(fields)) = (into, fields) {
        into.extend(fields);
    }
}
