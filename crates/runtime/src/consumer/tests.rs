use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use jaiminho_telemetry::traces::Tracer;

use super::*;

fn opened(link: UpstreamLink) -> (Upstreams, oneshot::Receiver<Over>) {
    let mut upstreams = Upstreams::new(false, Hops::new(Tracer::default(), "mid"));
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let (address, (over, ended)) = (Address("in".into()), oneshot::channel());
    let terms = Terms {
        output: "in".into(),
        min_demand: 2,
        asking: Asking::Automatic,
        cancel: Cancel::Temporary,
        stop: CancellationToken::new(),
    };
    upstreams.opened(link, Opened { subscription: 0, address, half: LinkHalf::for_test(), place, over }, terms);
    (upstreams, ended)
}

#[test]
fn how_a_link_ended_says_how_soon_there_is_another() {
    let link = UpstreamLink(1);
    let gone = || LinkError::Unavailable("the connection closed".into());
    let again = |reason: Option<EndReason>, lived: bool, error: LinkError| {
        let (mut upstreams, mut ended) = opened(link);
        if lived {
            upstreams.received(link, &mut [], false).unwrap();
        }
        if let Some(reason) = reason {
            upstreams.ended(link, 0, reason).unwrap();
        }
        upstreams.closed(link, error);
        ended.try_recv().unwrap().again
    };
    assert_eq!(again(None, true, gone()), Again::Soon);
    assert_eq!(again(Some(EndReason::Draining), true, gone()), Again::Soon);
    assert_eq!(again(Some(EndReason::Finished), true, gone()), Again::Later, "nothing more comes");
    assert_eq!(again(None, true, LinkError::Violation("a gap".into())), Again::Later);
    assert_eq!(again(None, false, gone()), Again::Later, "it never brought anything");
    let (mut upstreams, mut ended) = opened(link);
    upstreams.cancel(link, 0);
    upstreams.closed(link, gone());
    assert_eq!(ended.try_recv().unwrap().again, Again::Never);
}

#[test]
fn an_end_that_names_another_delivery_than_the_last_one_is_a_violation() {
    let link = UpstreamLink(1);
    let (mut upstreams, _ended) = opened(link);
    assert!(
        matches!(upstreams.ended(link, 1, EndReason::Draining), Err(LinkError::Violation(_))),
        "delivery 1 never came"
    );
    assert_eq!(upstreams.ended(link, 0, EndReason::Draining), Ok(()));
    let gone = LinkError::Unavailable("the connection closed".into());
    assert_eq!(
        upstreams.closed(link, gone),
        Some(Closed { address: Address("in".into()), error: LinkError::Draining, left: Left::Draining }),
        "it left as it said"
    );
}
