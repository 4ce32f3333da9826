//! Who is recognised, by which token.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::{Answer, TestEdge, answer, edge, edge_with, now, signed, token};

const PATH: &str = "/video-calls";

fn claims() -> Value {
    json!({ "sub": "ann", "exp": now() + 600 })
}

fn with(more: Value) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

fn key(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(include_bytes!("../data/rsa.pem")),
        Algorithm::ES256 => EncodingKey::from_ec_pem(include_bytes!("../data/ec.pem")),
        _ => EncodingKey::from_ed_pem(include_bytes!("../data/ed.pem")),
    }
    .unwrap()
}

fn signed_as(algorithm: Algorithm, id: Option<&str>) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &claims(), &key(algorithm)).unwrap()
}

async fn with_token(edge: &TestEdge, token: &str) -> Answer {
    edge.with_token("GET", PATH, token).await
}

#[tokio::test]
async fn a_token_signed_with_the_secret_is_believed() {
    let edge = edge().await;
    with_token(&edge, &signed(&claims())).await.is(200);
    let missing = answer(edge.request("GET", PATH)).await;
    missing.is_problem(401, "unauthenticated");
    assert_eq!(missing.header("www-authenticate"), "Bearer");
    answer(edge.request("GET", PATH).header("authorization", "Basic YTpi"))
        .await
        .is_problem(401, "unauthenticated");
    // A recent one is within the leeway of clocks.
    with_token(&edge, &signed(&with(json!({ "exp": now() - 5 })))).await.is(200);
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_refused() {
    let edge = edge().await;
    let unsigned = |header: &str| {
        use base64::Engine;
        let part = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", part(header), part(&claims().to_string()))
    };
    let other = EncodingKey::from_secret(b"another secret that is also long enough");
    let hs512 = EncodingKey::from_secret(crate::support::SECRET.as_bytes());
    for (why, token) in [
        ("expired", signed(&json!({ "sub": "ann", "exp": now() - 600 }))),
        ("no exp", signed(&json!({ "sub": "ann" }))),
        ("no sub", signed(&json!({ "exp": now() + 600 }))),
        ("sub is no id", signed(&with(json!({ "sub": "a b" })))),
        ("not yet valid", signed(&with(json!({ "nbf": now() + 600 })))),
        ("alg none", unsigned(r#"{"alg":"none","typ":"JWT"}"#)),
        ("no signature", unsigned(r#"{"alg":"HS256","typ":"JWT"}"#)),
        ("other secret", encode(&Header::new(Algorithm::HS256), &claims(), &other).unwrap()),
        ("algorithm not configured", encode(&Header::new(Algorithm::HS512), &claims(), &hs512).unwrap()),
        ("public key not configured", signed_as(Algorithm::RS256, None)),
        ("nonsense", "nonsense".to_owned()),
        ("too long", "x".repeat(9_000)),
    ] {
        let answer = with_token(&edge, &token).await;
        assert_eq!(answer.body["code"], "invalid-token", "{why}");
        answer.is_problem(401, "invalid-token");
    }
}

#[tokio::test]
async fn a_role_that_is_not_ours_makes_an_ordinary_user() {
    let edge = edge().await;
    for role in
        [json!("authenticated"), json!("Admin"), json!(["admin"]), json!({ "admin": true }), Value::Null]
    {
        let token = signed(&with(json!({ "role": role })));
        with_token(&edge, &token).await.is(200);
        edge.with_token("GET", "/admin/jobs", &token).await.is_problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_public_key_decides_the_algorithm() {
    for (algorithm, pem) in [
        (Algorithm::RS256, include_str!("../data/rsa.pub.pem")),
        (Algorithm::ES256, include_str!("../data/ec.pub.pem")),
        (Algorithm::EdDSA, include_str!("../data/ed.pub.pem")),
    ] {
        // Dashboards keep a PEM on one line.
        let edge = edge_with(&[("JWT_PUBLIC_KEY", &pem.replace('\n', "\\n"))]).await;
        with_token(&edge, &signed_as(algorithm, None)).await.is(200);
        with_token(&edge, &signed(&claims())).await.is(200);
        // The classic forgery: the public key as an HMAC secret.
        let forged =
            encode(&Header::default(), &claims(), &EncodingKey::from_secret(pem.as_bytes())).unwrap();
        with_token(&edge, &forged).await.is_problem(401, "invalid-token");
    }
}

#[tokio::test]
async fn issuer_and_audience_are_checked_when_configured() {
    let edge = edge_with(&[("JWT_ISSUER", "us"), ("JWT_AUDIENCE", "calls")]).await;
    with_token(&edge, &signed(&with(json!({ "iss": "us", "aud": ["x", "calls"] })))).await.is(200);
    for wrong in [
        json!({ "iss": "us" }),
        json!({ "aud": "calls" }),
        json!({ "iss": "us", "aud": "x" }),
        json!({ "iss": "x", "aud": "calls" }),
    ] {
        with_token(&edge, &signed(&with(wrong))).await.is_problem(401, "invalid-token");
    }
}

#[tokio::test]
async fn x_user_id_must_be_the_tokens_subject() {
    let edge = edge().await;
    let as_user = |user| edge.request("GET", PATH).bearer_auth(token("ann")).header("x-user-id", user);
    answer(as_user("ann")).await.is(200);
    answer(as_user("bob")).await.is_problem(403, "user-mismatch");
    answer(as_user("ann").header("x-user-id", "bob")).await.is_problem(403, "user-mismatch");
    answer(edge.request("GET", PATH).header("x-user-id", "ann")).await.is_problem(401, "unauthenticated");
}

/// A server that publishes a set of keys, which a test changes.
async fn published() -> (String, Arc<Mutex<Value>>) {
    let keys = Arc::new(Mutex::new(json!({ "keys": [] })));
    let serve = |State(keys): State<Arc<Mutex<Value>>>| async move { Json(keys.lock().unwrap().clone()) };
    let router = axum::Router::new().route("/keys", get(serve)).with_state(keys.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, keys)
}

fn set(keys: &[(&str, Algorithm)]) -> Value {
    let jwk = |(id, algorithm): &(&str, Algorithm)| {
        let mut jwk = Jwk::from_encoding_key(&key(*algorithm), *algorithm).unwrap();
        jwk.common.key_id = Some((*id).to_owned());
        jwk
    };
    serde_json::to_value(JwkSet { keys: keys.iter().map(jwk).collect() }).unwrap()
}

#[tokio::test]
async fn published_keys_are_believed_by_their_ids() {
    let (url, keys) = published().await;
    *keys.lock().unwrap() = set(&[("r", Algorithm::RS256), ("e", Algorithm::ES256), ("d", Algorithm::EdDSA)]);
    let edge = edge_with(&[("JWT_JWKS_URL", &url), ("JWT_SECRET", "")]).await;
    for (id, algorithm) in [("r", Algorithm::RS256), ("e", Algorithm::ES256), ("d", Algorithm::EdDSA)] {
        with_token(&edge, &signed_as(algorithm, Some(id))).await.is(200);
        with_token(&edge, &signed_as(algorithm, None)).await.is(200);
    }
    with_token(&edge, &signed_as(Algorithm::RS256, Some("e"))).await.is_problem(401, "invalid-token");
    with_token(&edge, &signed(&claims())).await.is_problem(401, "invalid-token");
}

#[tokio::test]
async fn a_new_key_is_found_at_once_and_then_the_publisher_is_not_hammered() {
    let (url, keys) = published().await;
    *keys.lock().unwrap() = set(&[("old", Algorithm::ES256)]);
    let edge = edge_with(&[("JWT_JWKS_URL", &url)]).await;
    with_token(&edge, &signed_as(Algorithm::ES256, Some("old"))).await.is(200);
    *keys.lock().unwrap() = set(&[("new", Algorithm::RS256)]);
    with_token(&edge, &signed_as(Algorithm::RS256, Some("new"))).await.is(200);
    with_token(&edge, &signed_as(Algorithm::ES256, Some("old"))).await.is_problem(401, "invalid-token");
    *keys.lock().unwrap() = set(&[("newer", Algorithm::RS256)]);
    with_token(&edge, &signed_as(Algorithm::RS256, Some("newer"))).await.is_problem(401, "invalid-token");
}

#[tokio::test]
async fn the_last_good_keys_stay_when_their_publisher_is_down() {
    let (url, keys) = published().await;
    *keys.lock().unwrap() = set(&[("a", Algorithm::EdDSA)]);
    let edge = edge_with(&[("JWT_JWKS_URL", &url)]).await;
    *keys.lock().unwrap() = json!("out of order");
    with_token(&edge, &signed_as(Algorithm::RS256, Some("b"))).await.is_problem(401, "invalid-token");
    with_token(&edge, &signed_as(Algorithm::EdDSA, Some("a"))).await.is(200);
}

#[tokio::test]
async fn that_there_is_no_set_of_keys_is_not_the_callers_fault() {
    let (url, _keys) = published().await;
    let edge = edge_with(&[("JWT_JWKS_URL", &url)]).await;
    with_token(&edge, &signed_as(Algorithm::RS256, Some("r"))).await.is_problem(503, "keys-unavailable");
    with_token(&edge, &signed(&claims())).await.is(200);
}

#[tokio::test]
async fn the_development_login_exists_only_when_asked_for() {
    let login = json!({ "userId": "ann", "name": "Ann", "role": "admin", "grants": { "join": true } });
    let without = edge().await;
    let request = without.request("POST", "/dev/token").json(&login);
    answer(request).await.is_problem(404, "not-found");
    let edge = edge_with(&[("DEV_LOGIN", "1"), ("JWT_ISSUER", "us"), ("JWT_AUDIENCE", "calls")]).await;
    let given = answer(edge.request("POST", "/dev/token").json(&json!({ "userId": "ann" }))).await.is(200);
    with_token(&edge, given.body["token"].as_str().unwrap()).await.is(200);
    assert_eq!(given.body["token"], given.body["data"]["token"]);
    let admin = json!({ "userId": "root", "role": "admin" });
    let admin = answer(edge.request("POST", "/dev/token").json(&admin)).await.is(200);
    edge.with_token("GET", "/admin/jobs", admin.body["token"].as_str().unwrap()).await.is(200);
    let ask = |body: Value| edge.request("POST", "/dev/token").json(&body);
    answer(ask(json!({ "userId": "a b" }))).await.is_problem(400, "invalid-request");
    answer(ask(json!({ "userId": "ann", "role": "king" }))).await.is_problem(400, "invalid-request");
    // A name that its owner has let point at this machine.
    let rebound = ask(json!({ "userId": "ann" })).header("host", "evil.example.org");
    answer(rebound).await.is_problem(403, "forbidden");
}
