//! Who may open a socket, and where the token stands.

use e2e::socket::upgrade;
use e2e::system::System;
use tokio_tungstenite::tungstenite::http::HeaderMap;

fn header(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name.parse().expect("a header's name"), value.parse().expect("ASCII"))])
}

#[tokio::test]
async fn a_socket_without_a_good_token_is_refused_before_the_upgrade() {
    let system = System::builder().workers(0).start().await;
    let base = system.edge.url();
    for (query, headers, code) in [
        ("", HeaderMap::new(), "unauthenticated"),
        ("", header("authorization", "Bearer nonsense"), "invalid-token"),
        ("?token=nonsense", HeaderMap::new(), "invalid-token"),
        ("", header("sec-websocket-protocol", "bearer, nonsense"), "invalid-token"),
    ] {
        let answer = upgrade(&base, query, &headers).await.expect_err("nobody is let in without a token");
        assert_eq!(answer.status(), 401);
        let body = String::from_utf8(answer.into_body().unwrap_or_default()).unwrap();
        assert!(body.contains(&format!("\"code\":\"{code}\"")), "{query} {headers:?}: {body}");
    }
}

#[tokio::test]
async fn a_token_is_taken_from_header_query_and_subprotocol() {
    let system = System::builder().workers(0).start().await;
    let (base, token) = (system.edge.url(), system.client("ann").token);
    let protocol = format!("bearer, {token}");
    for (query, headers, chosen) in [
        (String::new(), header("authorization", &format!("Bearer {token}")), None),
        (format!("?token={token}"), HeaderMap::new(), None),
        (String::new(), header("sec-websocket-protocol", &protocol), Some("bearer")),
    ] {
        let (_, protocol) = upgrade(&base, &query, &headers).await.expect("the token is good");
        assert_eq!(protocol.as_deref(), chosen);
    }
}
