//! The accept loop against clients that dawdle, hang and crowd.

use axum::routing::{get, post};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;

fn limits() -> HttpLimits {
    HttpLimits {
        header_timeout: Duration::from_millis(800),
        write_timeout: Duration::from_millis(300),
        grace: Duration::from_millis(300),
        ..HttpLimits::default()
    }
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_address_and_setting() {
    let taken = Served::start(limits(), |_| hello()).await;
    let error = listen::bind(taken.address, "admin.listen")
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(message.contains("port is in use"), "{message}");
    assert!(message.contains("`admin.listen`"), "{message}");
    assert!(message.contains(&taken.address.to_string()), "{message}");
}

#[tokio::test]
async fn a_header_that_never_ends_is_cut_and_an_idle_connection_too() {
    let served = Served::start(limits(), |_| hello()).await;
    for sent in ["", "GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
        let mut stream = served.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        Answer::read_rest(&mut stream).await;
    }
    let mut kept = served.connect().await;
    kept.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut kept, "hello").await;
    Answer::read_rest(&mut kept).await;
}

#[tokio::test]
async fn a_header_without_measure_is_refused() {
    let served = Served::start(limits(), |_| hello()).await;
    let endless = "a".repeat(64 * 1024);
    let answer = served
        .exchange(request("GET", "/", &[("x-long", &endless)], ""))
        .await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn one_that_asks_and_never_reads_is_cut() {
    let room = Arc::new(Notify::new());
    let gone = Arc::clone(&room);
    // Tells when the answer is dropped, that is, when the connection has ended.
    struct Tells(Arc<Notify>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let endless = get(move || {
        let tells = Tells(Arc::clone(&gone));
        let chunks = futures::stream::repeat_with(move || {
            let _ = &tells;
            Ok::<_, std::convert::Infallible>(vec![0_u8; 64 * 1024])
        });
        async move { axum::body::Body::from_stream(chunks) }
    });
    let served = Served::start(limits(), |_| Router::new().route("/", endless)).await;
    let mut stream = served.connect().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    tokio::time::timeout(PATIENCE, room.notified())
        .await
        .expect("the connection is cut");
}

// S5: eleven hundred connections that said nothing kept a good request waiting for half a minute.
#[tokio::test]
async fn one_that_says_nothing_makes_room_for_the_next_and_one_that_is_answered_does_not() {
    let limits = HttpLimits {
        max_connections: 3,
        header_timeout: PATIENCE,
        ..limits()
    };
    let entered = Arc::new(Notify::new());
    let leave = Arc::new(Notify::new());
    let (enter, go) = (Arc::clone(&entered), Arc::clone(&leave));
    let slow = post(move || async move {
        enter.notify_one();
        go.notified().await;
        "done"
    });
    let router = hello().route("/slow", slow);
    let served = Served::start(limits, |_| router).await;
    let mut answered = served.connect().await;
    answered
        .write_all(&request("POST", "/slow", &[], ""))
        .await
        .unwrap();
    entered.notified().await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        let mut stream = served.connect().await;
        stream.write_all(b"P").await.unwrap();
        silent.push(stream);
    }
    let good = served.exchange(request("GET", "/", &[], "")).await;
    assert_eq!(good.body, "hello");
    // Those that had waited longest are closed.
    for stream in &mut silent[..3] {
        Answer::read_rest(stream).await;
    }
    leave.notify_one();
    assert_eq!(Answer::read(&mut answered).await.body, "done");
}

#[tokio::test]
async fn while_all_are_answered_one_more_waits_for_its_turn() {
    let limits = HttpLimits {
        max_connections: 1,
        ..limits()
    };
    let entered = Arc::new(Notify::new());
    let leave = Arc::new(Notify::new());
    let (enter, go) = (Arc::clone(&entered), Arc::clone(&leave));
    let slow = post(move || async move {
        enter.notify_one();
        go.notified().await;
        "done"
    });
    let served = Served::start(limits, |_| hello().route("/slow", slow)).await;
    let mut answered = served.connect().await;
    answered
        .write_all(b"POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    entered.notified().await;
    let mut next = served.connect().await;
    next.write_all(&request("GET", "/", &[], "")).await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(200), next.read(&mut byte)).await;
    assert!(early.is_err(), "it was served beside another");
    leave.notify_one();
    read_until(&mut answered, "done").await;
    // The first one is kept alive and idle now: that is no reason to wait.
    assert_eq!(Answer::read(&mut next).await.body, "hello");
}

#[tokio::test]
async fn a_long_answer_is_no_idle_connection() {
    let limits = HttpLimits {
        header_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(50),
        ..limits()
    };
    let drops = get(|| async {
        let chunks = futures::stream::unfold(0, |count| async move {
            tokio::time::sleep(Duration::from_millis(40)).await;
            let chunk = Ok::<_, std::convert::Infallible>(format!("{count} "));
            (count < 10).then_some((chunk, count + 1))
        });
        axum::body::Body::from_stream(chunks)
    });
    let served = Served::start(limits, |_| Router::new().route("/", drops)).await;
    let answer = served.exchange(request("GET", "/", &[], "")).await;
    assert!(answer.body.contains("9 "), "{answer:?}");
}

#[tokio::test]
async fn a_shutdown_lets_an_answer_finish_and_accepts_nobody_new() {
    let entered = Arc::new(Notify::new());
    let leave = Arc::new(Notify::new());
    let (enter, go) = (Arc::clone(&entered), Arc::clone(&leave));
    let slow = post(move || async move {
        enter.notify_one();
        go.notified().await;
        "done"
    });
    let limits = HttpLimits {
        grace: PATIENCE,
        ..limits()
    };
    let mut served = Served::start(limits, |_| Router::new().route("/", slow)).await;
    let mut stream = served.connect().await;
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    entered.notified().await;
    served.shutdown.cancel();
    eventually("the port is closed", async || {
        TcpStream::connect(served.address).await.is_err()
    })
    .await;
    leave.notify_one();
    assert_eq!(Answer::read(&mut stream).await.body, "done");
    drop(stream);
    served.ended().await;
}

#[tokio::test]
async fn a_shutdown_ends_within_its_grace_whatever_the_others_do() {
    let hanging = post(std::future::pending::<()>);
    let mut served = Served::start(limits(), |_| Router::new().route("/", hanging)).await;
    let mut hung = served.connect().await;
    hung.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    let mut half = served.connect().await;
    half.write_all(b"GET / HT").await.unwrap();
    let idle = served.connect().await;
    // All three are in: a fourth is answered.
    assert_eq!(
        served.exchange(request("GET", "/", &[], "")).await.status,
        405
    );
    let began = Instant::now();
    served.shutdown.cancel();
    served.ended().await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    drop(idle);
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_only() {
    let router = hello().route(
        "/panic",
        get(async || -> &'static str { panic!("as planned") }),
    );
    let served = Served::start(limits(), |_| router).await;
    let mut broken = served.connect().await;
    broken
        .write_all(&request("GET", "/panic", &[], ""))
        .await
        .unwrap();
    Answer::read_rest(&mut broken).await;
    assert_eq!(
        served.exchange(request("GET", "/", &[], "")).await.body,
        "hello"
    );
}
