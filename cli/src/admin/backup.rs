//! `admin backup`: images of the metadata, what can be restored, and restoring it.

use super::request;
use crate::args::{BackupCommand, Global, RestoreCommand};
use crate::connect::Admin;
use crate::error::CliError;
use crate::moment;
use crate::output::{self, human_bytes};
use cairn_core::backup::History;
use cairn_core::ids::{ClusterId, LogIndex};
use cairn_core::time::Timestamp;
use cairn_env::Env;
use cairn_master::backup::{self, Life, Objects, Restored, Survey, Target, To};
use cairn_proto::v1::{CreateBackupRequest, StatusRequest};

/// Runs one of the commands. Only `create`, and those that are told no destination, need a master.
pub(super) async fn run(env: &Env, global: &Global, command: BackupCommand) -> Result<(), CliError> {
    match command {
        BackupCommand::Create => create(&mut Admin::leader(env, global).await?, global.json).await,
        BackupCommand::List { destination } => {
            let objects = open(env, global, destination).await?;
            let survey = backup::survey(&objects).await.map_err(failed)?;
            if global.json { output::json(&as_json(&survey)) } else { print(&survey, objects.url()) }
        }
        BackupCommand::Verify { destination, latest } => {
            let objects = open(env, global, destination).await?;
            verify(env, &objects, latest, global.json).await
        }
        BackupCommand::Restore(command) => restore(env, global, command).await,
    }
}

fn failed(error: impl ToString) -> CliError {
    CliError::Failed(error.to_string())
}

/// The destination that is named, or the one that the leader ships to.
async fn open(env: &Env, global: &Global, destination: Option<String>) -> Result<Objects, CliError> {
    let url = match destination {
        Some(url) => url,
        None => {
            let mut admin = Admin::leader(env, global).await?;
            let status = admin.client.status(request(StatusRequest {})).await;
            let status = status.map_err(|status| admin.failed(&status))?.into_inner();
            status.backup.map(|backup| backup.destination).filter(|url| !url.is_empty()).ok_or_else(|| {
                CliError::Failed(format!(
                    "master {}: no backup is configured; set `backup` in the configuration of every master, or name a \
                     destination here",
                    admin.address
                ))
            })?
        }
    };
    Objects::open(&url).map_err(failed)
}

async fn create(admin: &mut Admin, json: bool) -> Result<(), CliError> {
    // It takes as long as the state is large: no deadline.
    let made = admin.client.create_backup(CreateBackupRequest {}).await;
    let made = made.map_err(|status| admin.failed(&status))?.into_inner();
    if json {
        return output::json(&serde_json::json!({ "index": made.index, "destination": made.destination }));
    }
    output::line(&format!("an image up to entry {} is complete in {}", made.index, made.destination));
    Ok(())
}

fn as_json(survey: &Survey) -> serde_json::Value {
    let life = |life: &Life| {
        let images: Vec<_> = life
            .images
            .iter()
            .map(|image| {
                let manifest = image.manifest.as_ref();
                serde_json::json!({
                    "index": image.name.index.get(),
                    "time": manifest.ok().map(|manifest| moment::text(manifest.time)),
                    "bytes": manifest.ok().map(cairn_core::backup::manifest::Manifest::bytes),
                    "error": manifest.err(),
                    "restorable_index": image.reach.get(),
                    "restorable_until": image.until.map(moment::text),
                })
            })
            .collect();
        serde_json::json!({
            "cluster": life.cluster.to_string(), "history": life.history.0, "restored": life.holdings.restored,
            "bytes": life.holdings.bytes, "shipments": life.holdings.shipments.len(),
            "unfinished_images": life.holdings.unfinished.len(), "images": images,
        })
    };
    survey.lives.iter().map(life).collect()
}

fn print(survey: &Survey, url: &str) -> Result<(), CliError> {
    if survey.lives.is_empty() {
        output::line(&format!("{url} holds no backup"));
    }
    for life in &survey.lives {
        let begun = if life.holdings.restored { ", begun by a restore" } else { "" };
        output::line(&format!(
            "cluster {} history {}{begun}: {} in {} shipments and {} images",
            life.cluster,
            life.history,
            human_bytes(life.holdings.bytes),
            life.holdings.shipments.len(),
            life.images.len()
        ));
        let mut table = output::Table::new(&["  IMAGE", "MADE AT", "SIZE", "RESTORABLE", "UP TO"]);
        for image in &life.images {
            let until = image.until.map_or_else(|| "unknown".to_owned(), moment::text);
            let (time, bytes) = match &image.manifest {
                Ok(manifest) => (moment::text(manifest.time), human_bytes(manifest.bytes())),
                Err(error) => (error.clone(), "-".to_owned()),
            };
            let index = image.name.index.get();
            table.row(vec![
                format!("  {index}"),
                time,
                bytes,
                format!("to entry {}", image.reach.get()),
                until,
            ]);
        }
        if !life.images.is_empty() {
            table.print();
        }
        if let (Some(newest), Some(last)) = (life.newest(), life.holdings.shipments.last())
            && last.last > newest.reach
        {
            output::warning(&format!(
                "shipments up to entry {} lie behind a gap and cannot be restored: an image is missing there",
                last.last.get()
            ));
        }
    }
    Ok(())
}

async fn verify(env: &Env, objects: &Objects, latest: bool, json: bool) -> Result<(), CliError> {
    let survey = backup::survey(objects).await.map_err(failed)?;
    let scratch = tempfile::tempdir().map_err(CliError::host("a temporary directory"))?;
    let lives: Vec<&Life> = match latest {
        // Where only the operator knows which history is the newest, each is looked at.
        true => match newest_life(&survey, None) {
            Ok(newest) => newest.into_iter().collect(),
            Err(_) => survey.lives.iter().filter(|life| !life.images.is_empty()).collect(),
        },
        false => survey.lives.iter().collect(),
    };
    let (mut rows, mut wrong): (Vec<_>, Vec<String>) = (Vec::new(), Vec::new());
    for life in &lives {
        let checked = backup::verify(env, objects, life, latest, scratch.path()).await.map_err(failed)?;
        let (verified, faults) = checked;
        if json {
            rows.push(serde_json::json!({
                "cluster": life.cluster.to_string(), "history": life.history.0, "images": verified.images,
                "shipments": verified.shipments, "entries": verified.entries, "bytes": verified.bytes, "faults": faults,
            }));
        } else {
            output::line(&format!(
                "cluster {} history {}: {} images, {} shipments with {} entries, {} read and whole",
                life.cluster,
                life.history,
                verified.images,
                verified.shipments,
                verified.entries,
                human_bytes(verified.bytes)
            ));
        }
        wrong.extend(faults);
    }
    if json {
        output::json(&rows)?;
    }
    if lives.is_empty() {
        wrong.push(format!("{} holds no backup", objects.url()));
    }
    if wrong.is_empty() { Ok(()) } else { Err(CliError::Failed(wrong.join("\n"))) }
}

/// The newest history with an image, of the only cluster there is or of the one that is named. Where another one reaches further in
/// time, somebody has tried a restore out while the masters went on, or has just restored: nobody but the operator knows which.
fn newest_life(survey: &Survey, cluster: Option<ClusterId>) -> Result<Option<&Life>, CliError> {
    let wanted = |life: &&Life| cluster.is_none_or(|cluster| life.cluster == cluster);
    let with_image = || survey.lives.iter().filter(wanted).filter(|life| !life.images.is_empty());
    let until = |life: &Life| life.newest().and_then(|image| image.until);
    let Some(newest) = with_image().max_by_key(|life| life.history) else { return Ok(None) };
    let of_it = || with_image().filter(|life| life.cluster == newest.cluster);
    match of_it().find(|life| until(life) > until(newest)) {
        None => Ok(Some(newest)),
        Some(later) => {
            let text = |life: &Life| until(life).map_or_else(|| "an unknown moment".to_owned(), moment::text);
            Err(CliError::Usage(format!(
                "which history? {} is the newest and reaches {}, but history {} reaches {}: give --history",
                newest.history,
                text(newest),
                later.history,
                text(later)
            )))
        }
    }
}

fn choose<'a>(survey: &'a Survey, command: &RestoreCommand) -> Result<&'a Life, CliError> {
    let cluster = match &command.cluster {
        Some(text) => {
            let uuid = uuid::Uuid::parse_str(text);
            Some(ClusterId(uuid.map_err(|_| CliError::Usage(format!("\"{text}\" is no uuid")))?))
        }
        None => None,
    };
    let mut clusters: Vec<ClusterId> = survey.lives.iter().map(|life| life.cluster).collect();
    clusters.dedup();
    if cluster.is_none() && clusters.len() > 1 {
        let known: Vec<String> = clusters.iter().map(ToString::to_string).collect();
        let known = known.join(", ");
        return Err(CliError::Usage(format!("which cluster? give --cluster with one of: {known}")));
    }
    let life = match command.history {
        Some(history) => survey.lives.iter().find(|life| {
            life.history == History(history) && cluster.is_none_or(|cluster| life.cluster == cluster)
        }),
        None => newest_life(survey, cluster)?,
    };
    life.ok_or_else(|| CliError::Failed("there is no such backup: see `cairn admin backup list`".to_owned()))
}

async fn restore(env: &Env, global: &Global, command: RestoreCommand) -> Result<(), CliError> {
    let objects = Objects::open(&command.destination).map_err(failed)?;
    let survey = backup::survey(&objects).await.map_err(failed)?;
    let life = choose(&survey, &command)?;
    let to = match (command.at, command.index) {
        (Some(moment), _) => To::Moment(moment),
        (None, Some(index)) => To::Index(LogIndex(index)),
        (None, None) => To::Latest,
    };
    let begun = env.clock.now();
    let target = Target { data_dir: command.to, id: command.id, address: command.address };
    let restored = backup::restore(env, &objects, (&survey, life), to, &target).await.map_err(failed)?;
    let seconds = env.clock.now().since(begun).as_secs_f64();
    for reason in &restored.passed_over {
        output::warning(&format!("{reason}; an older image was taken, which leads to the same moment"));
    }
    if let Err(error) = &restored.claimed {
        output::warning(&format!(
            "history {} could not be noted in the destination ({error}): restore nothing else from it before a master has \
             shipped there",
            restored.history
        ));
    }
    if global.json { output::json(&restored_json(&restored)) } else { told(&restored, to, seconds, &target) }
}

fn skipped(restored: &Restored) -> (u64, Option<i64>) {
    let (reach, until) = restored.reach;
    let entries = reach.get().saturating_sub(restored.applied.last.index.get());
    (entries, until.map(|until| until.seconds.saturating_sub(restored.applied.time.seconds)))
}

fn restored_json(restored: &Restored) -> serde_json::Value {
    let (entries, seconds) = skipped(restored);
    serde_json::json!({
        "cluster": restored.cluster.to_string(), "from_history": restored.from.0, "history": restored.history.0,
        "image": restored.image.get(), "index": restored.applied.last.index.get(),
        "time": moment::text(restored.applied.time), "hash": format!("{:016x}", restored.applied.hash),
        "skipped_entries": entries, "skipped_seconds": seconds, "beyond_a_gap": restored.beyond.map(LogIndex::get),
        "passed_over": restored.passed_over,
    })
}

fn told(restored: &Restored, to: To, seconds: f64, target: &Target) -> Result<(), CliError> {
    let (index, time) = (restored.applied.last.index.get(), moment::text(restored.applied.time));
    output::line(&format!(
        "restored cluster {} to entry {index}, leader time {time}, in {seconds:.1} s: the image of entry {} and {} entries after it, \
         verified by their running hash",
        restored.cluster,
        restored.image.get(),
        index - restored.image.get()
    ));
    if to == To::Latest {
        output::line(&format!(
            "lost: what was acknowledged after {time} and before the masters were lost; they ship each second, so that is less than \
             5 s of operations, unless `cairn admin status` had warned of the backup",
        ));
    } else {
        let (entries, seconds) = skipped(restored);
        let seconds = seconds.map_or_else(String::new, |seconds| format!(", {seconds} s,"));
        output::line(&format!(
            "left out, as you chose: {entries} entries{seconds} that are in the backup, and what was acknowledged after them; data \
             that was deleted meanwhile is gone from the chunk servers"
        ));
    }
    if let Some(beyond) = restored.beyond {
        output::warning(&format!("shipments up to entry {beyond} lie behind a gap and were not restored"));
    }
    let (directory, id) = (target.data_dir.display(), target.id);
    output::line(&format!(
        "next: start `cairn master` with data_dir = \"{directory}\", node_id = {id} and members = []; mount anew; add other masters, \
         with empty directories, by `cairn admin masters add`. It goes on in history {}",
        restored.history
    ));
    Ok(())
}

/// A moment of a status reply.
pub(super) fn seconds_text(seconds: i64) -> String {
    moment::text(Timestamp { seconds, nanos: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::backup::names::{Holdings, ImageName};
    use cairn_master::backup::Image;

    fn life(history: u64, until: i64) -> Life {
        let name = ImageName { index: LogIndex(9), drawn: 1 };
        let until = Some(Timestamp { seconds: until, nanos: 0 });
        let image = Image { name, manifest: Err("unread".to_owned()), reach: name.index, until };
        let cluster = ClusterId(uuid::Uuid::from_u128(5));
        Life { cluster, history: History(history), holdings: Holdings::default(), images: vec![image] }
    }

    #[test]
    fn a_restore_that_was_tried_out_is_not_taken_for_the_cluster() {
        let chosen = |lives: Vec<Life>| {
            let survey = Survey { lives };
            newest_life(&survey, None)
                .map(|life| life.map(|life| life.history.0))
                .map_err(|error| error.to_string())
        };
        assert_eq!(chosen(vec![]), Ok(None));
        assert_eq!(chosen(vec![life(0, 100), life(1, 200)]), Ok(Some(1)));
        assert_eq!(chosen(vec![life(0, 100), life(1, 100)]), Ok(Some(1)));
        // History 1 ended on the evening of the drill; the masters shipped on.
        let refused = chosen(vec![life(0, 300), life(1, 200)]).unwrap_err();
        assert!(refused.contains("--history") && refused.contains("history 0 reaches"), "{refused}");
    }
}
