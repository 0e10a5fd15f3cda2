//! What ends somebody's access: a suspension, an expiry, a removal. It holds from the next request on, whatever it was that
//! a client proved itself with.

use super::*;

const MANIFEST: &str = "/v2/dev/app/manifests/1";
const OWN: &str = "alice's own";

/// Everything that clients may hold of one user.
struct Held {
    access_token: String,
    /// Bearer and refresh token, signed on the password and on the access token.
    on_password: (String, String),
    on_access_token: (String, String),
}

/// A server with an image that the user `alice` may pull, and what she holds; her access token expires so soon, or later where
/// the machine was too slow to use it by then.
async fn alice(expires_s: u64) -> (Server, Held) {
    let server = Server::start().unwrap();
    Image::debian("tzdata", "2024a").unwrap().push(&server, "dev/app", "1").await.unwrap();
    add_user(&server, "alice", OWN).await;
    grant(&server, "user:alice", "read", "dev/*").await;
    let signed = async |secret: &str| {
        let query = "service=wharf&scope=repository:dev/app:pull&offline_token=true";
        let answer = token(&server, Some(("alice", secret)), query).await;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return None;
        }
        let answer: Value = answer.json().await.unwrap();
        let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        Some((text("token"), text("refresh_token")))
    };
    let on_password = signed(OWN).await.unwrap();
    let mut expires_s = expires_s;
    loop {
        let made = json!({"name": format!("ci-{expires_s}"), "expires_s": expires_s});
        let made = done(&server, Method::POST, "/users/alice/tokens", made).await;
        let access_token = made["text"].as_str().unwrap().to_owned();
        if let Some(on_access_token) = signed(&access_token).await {
            return (server, Held { access_token, on_password, on_access_token });
        }
        assert!(expires_s < 3600, "it is good for nothing from the beginning");
        expires_s *= 4;
    }
}

/// What each of them is answered now; first those that stand on the password, then those on the access token.
async fn answers(server: &Server, held: &Held) -> [Vec<StatusCode>; 2] {
    let basic = async |path: &str, secret: &str| {
        let request = http().get(format!("{}{path}", server.url)).basic_auth("alice", Some(secret));
        request.send().await.unwrap().status()
    };
    let refreshed = async |refresh: &str| {
        let body = format!("grant_type=refresh_token&service=wharf&refresh_token={refresh}");
        let request = http().post(format!("{}/token", server.url)).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.send().await.unwrap().status()
    };
    let mut all = [vec![], vec![]];
    let kinds = [(OWN, &held.on_password), (&*held.access_token, &held.on_access_token)];
    for (answers, (secret, (signed, refresh))) in all.iter_mut().zip(kinds) {
        for path in [MANIFEST, "/api/v1/status", "/token?service=wharf&scope=repository:dev/app:pull"] {
            answers.push(basic(path, secret).await);
        }
        answers.push(get(server, MANIFEST, signed).await);
        answers.push(refreshed(refresh).await);
    }
    all[1].push(get(server, MANIFEST, &held.access_token).await);
    all
}

fn all_are(answers: &[StatusCode], expected: StatusCode) -> bool {
    answers.iter().all(|answer| *answer == expected)
}

#[tokio::test]
async fn a_suspended_user_does_nothing_until_the_suspension_ends() {
    let (server, held) = alice(3600).await;
    // What everybody may is not open to who is suspended either: the credentials prove nobody.
    grant(&server, "anonymous", "read", "dev/*").await;
    for (suspended, expected) in
        [(false, StatusCode::OK), (true, StatusCode::UNAUTHORIZED), (false, StatusCode::OK)]
    {
        let path = "/users/alice/suspension";
        done(&server, Method::PUT, path, json!({ "suspended": suspended })).await;
        let [password, access_token] = answers(&server, &held).await;
        assert!(all_are(&password, expected), "suspended: {suspended}: {password:?}");
        assert!(all_are(&access_token, expected), "suspended: {suspended}: {access_token:?}");
    }
}

#[tokio::test]
async fn what_was_signed_on_an_access_token_expires_with_it() {
    let (server, held) = alice(5).await;
    let bearer = &held.access_token;
    while get(&server, MANIFEST, bearer).await == StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let [password, access_token] = answers(&server, &held).await;
    assert!(all_are(&access_token, StatusCode::UNAUTHORIZED), "{access_token:?}");
    assert!(all_are(&password, StatusCode::OK), "{password:?}");
}

#[tokio::test]
async fn a_user_of_the_same_name_is_somebody_else() {
    let (server, held) = alice(3600).await;
    let path = "/users/alice/suspension";
    done(&server, Method::PUT, path, json!({"suspended": true})).await;
    done(&server, Method::DELETE, "/users/alice", Value::Null).await;
    add_user(&server, "alice", OWN).await;
    grant(&server, "user:alice", "read", "dev/*").await;
    // Neither the suspension nor anything that was signed is inherited, though the password is the same.
    let [password, access_token] = answers(&server, &held).await;
    assert!(all_are(&password[..3], StatusCode::OK), "{password:?}");
    assert!(all_are(&password[3..], StatusCode::UNAUTHORIZED), "{password:?}");
    assert!(all_are(&access_token, StatusCode::UNAUTHORIZED), "{access_token:?}");
}
