//! What operators want to run: a wish is replaced wholly or not at all, and one at a time.

use jiff::SignedDuration;
use serde_json::json;

use super::{Fixture, Outcome};
use crate::desired::{AuditLine, Change, Desired, Digest, HostReport, Placed};
use crate::domain::Version;

fn version(name: &str) -> Result<Version, &'static str> {
    Version::parse(name).ok_or("no version")
}

fn placed(fixture: &Fixture, component: &str) -> Placed {
    Placed {
        digest: Digest::of(component.as_bytes()),
        since: fixture.now,
        by: "a test".to_owned(),
    }
}

/// A change that brings a component.
fn change(
    fixture: &Fixture,
    after: i64,
    desired: Desired,
    component: &str,
) -> Result<Change, &'static str> {
    Ok(Change {
        version: version("v1")?,
        after,
        desired,
        component: Some((
            Digest::of(component.as_bytes()),
            component.as_bytes().to_vec(),
        )),
        audit: AuditLine {
            at: fixture.now,
            by: "a test".to_owned(),
            host: "here".to_owned(),
            version: "v1".to_owned(),
            action: "push".to_owned(),
            result: "done".to_owned(),
            from: None,
            to: Some(Digest::of(component.as_bytes()).revision()),
            evidence: json!({ "component": component }),
        },
    })
}

#[tokio::test]
async fn a_change_keeps_what_the_wish_names_and_forgets_the_rest() -> Outcome {
    let fixture = Fixture::new().await?;
    let database = &fixture.database;
    let mut wish = Desired::first("sell".to_owned(), placed(&fixture, "0"));
    let first = change(&fixture, 0, wish.clone(), "0")?;
    assert_eq!(database.save_strategy(&first).await?, Some(1));
    for (epoch, component) in (1..).zip(["1", "2", "3", "4"]) {
        wish = wish.swap(placed(&fixture, component))?;
        let next = change(&fixture, epoch, wish.clone(), component)?;
        assert_eq!(database.save_strategy(&next).await?, Some(epoch + 1));
    }
    let stored = database.strategies().await?;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].version, version("v1")?);
    assert_eq!((stored[0].epoch, &stored[0].desired), (5, &wish));
    for (component, kept) in [("4", true), ("1", true), ("0", false)] {
        let digest = Digest::of(component.as_bytes());
        let bytes = database.component(&version("v1")?, &digest).await?;
        assert_eq!(bytes, kept.then(|| component.as_bytes().to_vec()));
        assert_eq!(database.component(&version("v2")?, &digest).await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn of_two_changes_that_follow_the_same_one_does_nothing_at_all() -> Outcome {
    let fixture = Fixture::new().await?;
    let database = &fixture.database;
    let wish = Desired::first("sell".to_owned(), placed(&fixture, "0"));
    let first = change(&fixture, 0, wish.clone(), "0")?;
    assert_eq!(database.save_strategy(&first).await?, Some(1));
    assert_eq!(database.save_strategy(&first).await?, None);
    let one = change(&fixture, 1, wish.swap(placed(&fixture, "one"))?, "one")?;
    let other = change(&fixture, 1, wish.swap(placed(&fixture, "other"))?, "other")?;
    let (one_saved, other_saved) =
        tokio::join!(database.save_strategy(&one), database.save_strategy(&other));
    let (won, lost) = match (one_saved?, other_saved?) {
        (Some(2), None) => (&one, &other),
        (None, Some(2)) => (&other, &one),
        both => panic!("{both:?}"),
    };
    assert_eq!(database.strategies().await?[0].desired, won.desired);
    let (digest, _) = lost.component.as_ref().unwrap();
    assert_eq!(database.component(&version("v1")?, digest).await?, None);
    let audit = database.audit(Some("v1"), 10).await?;
    assert_eq!(audit, [won.audit.clone(), first.audit.clone()]);
    Ok(())
}

#[tokio::test]
async fn the_audit_is_read_by_version_the_last_first() -> Outcome {
    let fixture = Fixture::new().await?;
    let wish = Desired::first("sell".to_owned(), placed(&fixture, "0"));
    let mut line = change(&fixture, 0, wish, "0")?.audit;
    for version in ["v1", "v2", "v1"] {
        line.version = version.to_owned();
        line.by.push('!');
        fixture.database.write_audit(&line).await?;
    }
    let read = async |version, limit| {
        let lines = fixture.database.audit(version, limit).await?;
        let by = lines.into_iter().map(|line| line.by.len() - "a test".len());
        Ok::<Vec<_>, Box<dyn std::error::Error>>(by.collect())
    };
    assert_eq!(read(None, 10).await?, [3, 2, 1]);
    assert_eq!(read(Some("v1"), 10).await?, [3, 1]);
    assert_eq!(read(Some("v1"), 1).await?, [3]);
    assert_eq!(read(Some("v3"), 10).await?, [0_usize; 0]);
    Ok(())
}

#[tokio::test]
async fn a_host_that_says_nothing_for_long_is_forgotten() -> Outcome {
    let fixture = Fixture::new().await?;
    let report = |host: &str, seconds: i64, says: i64| HostReport {
        host: host.to_owned(),
        seen_at: fixture.now + SignedDuration::from_secs(seconds),
        report: json!({ "says": says }),
    };
    let database = &fixture.database;
    database
        .report_host(&report("old", 0, 1), fixture.now)
        .await?;
    database
        .report_host(&report("new", 1, 1), fixture.now)
        .await?;
    database
        .report_host(&report("new", 30, 2), fixture.now)
        .await?;
    let both = database.hosts(fixture.now).await?;
    assert_eq!(both, [report("new", 30, 2), report("old", 0, 1)]);
    let since = fixture.now + SignedDuration::from_secs(10);
    assert_eq!(database.hosts(since).await?, [report("new", 30, 2)]);
    database.report_host(&report("new", 40, 3), since).await?;
    assert_eq!(database.hosts(fixture.now).await?, [report("new", 40, 3)]);
    Ok(())
}
