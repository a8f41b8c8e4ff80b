//! `dev up` and `dev start`.

use super::layout::{LOOPBACK, Layout, Member, Role};
use super::ports::Reserved;
use super::process::{self, Running};
use super::{down, ports, ready};
use crate::args::{DevUp, Global};
use crate::error::CliError;
use crate::{mounting, output, services};
use cairn_core::limits::{MASTERS_MAX, SERVER_DISKS_MAX};
use cairn_env::Env;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for one process: a start replays the journal first, which is bounded well below this.
const READY_LIMIT: Duration = Duration::from_secs(60);
const CHUNKSERVERS_MAX: u32 = 64;
/// One may fail.
const MASTERS_DEFAULT: u32 = 3;

pub(super) fn up(global: &Global, options: &DevUp) -> Result<(), CliError> {
    let begun = Instant::now();
    let (layout, reserved) =
        if Layout::exists(&options.root) { existing(options)? } else { create(options)? };
    start_services(&layout)?;
    drop(reserved);
    for member in layout.of_role(Role::Mount) {
        start(&layout, member)?;
    }
    report(global, &layout, begun.elapsed())?;
    if options.foreground {
        services::wait_for_interrupt()?;
        down::stop_all(&layout)?;
    }
    Ok(())
}

fn report(global: &Global, layout: &Layout, took: Duration) -> Result<(), CliError> {
    if global.json {
        return output::json(&serde_json::json!({
            "root": layout.root, "mount": layout.mount, "masters": layout.masters(),
            "seconds": took.as_secs_f64(),
        }));
    }
    let root = layout.root.display();
    output::line(&format!(
        "{} is mounted ({} replicas, up in {:.1} s)\n\
         masters   {}\n\
         look      cairn dev ps --root {root}\n\
         operate   cairn --masters {} admin status\n\
         stop      cairn dev down --root {root}",
        layout.mount.display(),
        layout.replicas,
        took.as_secs_f64(),
        layout.masters(),
        layout.masters(),
    ));
    Ok(())
}

/// A cluster that exists keeps its shape, but for more chunk servers: other options may repeat it, not change it.
fn existing(options: &DevUp) -> Result<(Layout, Reserved), CliError> {
    let mut layout = Layout::load(&options.root)?;
    let reserved = grow(&mut layout, options.chunkservers)?;
    let count = |role| layout.of_role(role).count().to_string();
    let conflicts = [
        ("--masters", master_count(options)?.map(|asked| asked.to_string()), count(Role::Master)),
        ("--chunkservers", options.chunkservers.map(|asked| asked.to_string()), count(Role::Chunkserver)),
        ("--replicas", options.replicas.map(|asked| asked.to_string()), layout.replicas.to_string()),
        ("--disks", options.disks.map(|asked| asked.to_string()), layout.disks.to_string()),
        ("--address", options.address.map(|asked| asked.to_string()), layout.address.to_string()),
    ];
    for (name, asked, is) in conflicts {
        if asked.is_some_and(|asked| asked != is) {
            return Err(CliError::Usage(format!(
                "{} already holds a cluster with {name} {is}; use another --root, or remove it with: cairn dev down \
                 --root {} --purge",
                layout.root.display(),
                layout.root.display()
            )));
        }
    }
    if let Some(mount) = &options.mount {
        layout.mount = absolute(mount)?;
    }
    if !options.options.is_empty() {
        layout.mount_options.clone_from(&options.options);
    }
    layout.save()?;
    Ok((layout, reserved))
}

/// Adds chunk servers up to the number asked for.
fn grow(layout: &mut Layout, asked: Option<u32>) -> Result<Reserved, CliError> {
    let known = layout.of_role(Role::Chunkserver).count() as u32;
    let Some(asked) = asked.filter(|asked| (known + 1..=CHUNKSERVERS_MAX).contains(asked)) else {
        return Ok(Reserved::default());
    };
    let reserved = ports::free(&*Env::real().random, layout.address, 2 * (asked - known) as usize)?;
    layout.add_chunkservers(&reserved.ports().collect::<Vec<_>>());
    Ok(reserved)
}

fn create(options: &DevUp) -> Result<(Layout, Reserved), CliError> {
    let masters = master_count(options)?.unwrap_or(MASTERS_DEFAULT);
    let chunkservers = options.chunkservers.unwrap_or(3);
    let replicas = options.replicas.unwrap_or(3);
    if masters == 0 || masters as usize > MASTERS_MAX {
        return Err(CliError::Usage(format!("--masters {masters}: 1 to {MASTERS_MAX}")));
    }
    if chunkservers == 0 || chunkservers > CHUNKSERVERS_MAX {
        return Err(CliError::Usage(format!("--chunkservers {chunkservers}: 1 to {CHUNKSERVERS_MAX}")));
    }
    if replicas == 0 || u32::from(replicas) > chunkservers {
        return Err(CliError::Usage(format!(
            "--replicas {replicas}: between 1 and the number of chunk servers ({chunkservers})"
        )));
    }
    let disks = options.disks.unwrap_or(1);
    if disks == 0 || disks as usize > SERVER_DISKS_MAX {
        return Err(CliError::Usage(format!("--disks {disks}: 1 to {SERVER_DISKS_MAX}")));
    }
    let address = options.address.unwrap_or(LOOPBACK);
    if !address.is_loopback() {
        return Err(CliError::Usage(format!(
            "--address {address}: a development cluster listens on a loopback address, such as 127.0.0.2"
        )));
    }
    let root = absolute(&options.root)?;
    std::fs::create_dir_all(&root).map_err(CliError::host(root.display().to_string()))?;
    let count = 2 * (masters + chunkservers) as usize + 1;
    let reserved = match options.base_port {
        Some(base) => ports::consecutive(address, base, count)?,
        None => ports::free(&*Env::real().random, address, count)?,
    };
    let mount = options.mount.as_deref().map_or_else(|| Ok(root.join("mnt")), absolute)?;
    let ports: Vec<u16> = reserved.ports().collect();
    let shape = (masters, chunkservers, replicas);
    let mut uuid = [0; 16];
    Env::real().random.fill(&mut uuid);
    let cluster = uuid::Builder::from_random_bytes(uuid).into_uuid();
    let mut layout = Layout::new(&root, cluster, address, shape, mount, options.options.clone(), &ports);
    layout.disks = disks;
    layout.save()?;
    Ok((layout, reserved))
}

fn master_count(options: &DevUp) -> Result<Option<u32>, CliError> {
    options
        .master_count()
        .map_err(|text| CliError::Usage(format!("--masters {text}: dev up takes a number of masters")))
}

fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(CliError::host(path.display().to_string()))
}

/// Starts masters and chunk servers together, and waits for all: no master is ready before a majority is there.
fn start_services(layout: &Layout) -> Result<(), CliError> {
    let services = || layout.of_role(Role::Master).chain(layout.of_role(Role::Chunkserver));
    let mut waiting: Vec<(&Member, Launched)> =
        services().map(|member| Ok((member, launch(layout, member)?))).collect::<Result<_, CliError>>()?;
    let start = Instant::now();
    while !waiting.is_empty() {
        let mut unready = Vec::new();
        for (member, launched) in waiting {
            match ready::is_service_ready(layout, member, launched.running, start, READY_LIMIT) {
                Ok(true) => {}
                Ok(false) => unready.push((member, launched)),
                // It had just been killed when it was found.
                Err(_) if launched.found && !process::is_alive(launched.running) => {
                    unready.push((member, launch(layout, member)?));
                }
                Err(error) => return Err(error),
            }
        }
        waiting = unready;
    }
    Ok(())
}

/// Starts one process unless it runs, and returns when it is usable.
pub(super) fn start(layout: &Layout, member: &Member) -> Result<(), CliError> {
    let launched = launch(layout, member)?;
    bring_up(layout, member, launched)
}

/// Waits until it is usable. One that was found running and ends meanwhile (it had just been killed) is started anew.
fn bring_up(layout: &Layout, member: &Member, launched: Launched) -> Result<(), CliError> {
    let Launched { running, found } = launched;
    match wait_ready(layout, member, running) {
        Err(_) if found && !process::is_alive(running) => {
            wait_ready(layout, member, launch(layout, member)?.running)
        }
        outcome => outcome,
    }
}

fn wait_ready(layout: &Layout, member: &Member, running: Running) -> Result<(), CliError> {
    match member.role {
        Role::Master | Role::Chunkserver => ready::wait_service(layout, member, running, READY_LIMIT),
        Role::Mount => ready::wait_mount(layout, member, running, READY_LIMIT),
    }
}

/// A process, and whether it ran before.
struct Launched {
    running: Running,
    found: bool,
}

fn launch(layout: &Layout, member: &Member) -> Result<Launched, CliError> {
    if let Some(running) = process::running(layout, member) {
        return Ok(Launched { running, found: true });
    }
    let directory = layout.directory(member);
    std::fs::create_dir_all(&directory).map_err(CliError::host(directory.display().to_string()))?;
    let arguments = match member.role {
        Role::Master => {
            let config = services::dev_master_config(&service_of(layout, member));
            service_arguments(layout, member, "master", config)?
        }
        Role::Chunkserver => {
            let config = services::dev_chunkserver_config(&service_of(layout, member));
            service_arguments(layout, member, "chunkserver", config)?
        }
        Role::Mount => mount_arguments(layout, member)?,
    };
    Ok(Launched { running: process::spawn(layout, member, &arguments)?, found: false })
}

fn service_of<'a>(layout: &Layout, member: &'a Member) -> services::DevService<'a> {
    services::DevService {
        address: layout.address(member),
        http_address: layout.http_address(member),
        data_dirs: layout.data_dirs(member),
        masters: layout.of_role(Role::Master).map(|master| layout.address(master)).collect(),
        number: 1 + layout.of_role(member.role).take_while(|other| other.name != member.name).count(),
        cluster: layout.cluster,
        replicas: layout.replicas,
        name: &member.name,
    }
}

/// Writes the configuration once: what the user changed in it later stays.
fn service_arguments(
    layout: &Layout,
    member: &Member,
    verb: &str,
    config: String,
) -> Result<Vec<String>, CliError> {
    let path = layout.config(member);
    if !path.exists() {
        std::fs::write(&path, config).map_err(CliError::host(path.display().to_string()))?;
    }
    Ok(vec![verb.into(), "--config".into(), path.display().to_string()])
}

fn mount_arguments(layout: &Layout, member: &Member) -> Result<Vec<String>, CliError> {
    mounting::clear_dead(&layout.mount)?;
    std::fs::create_dir_all(&layout.mount).map_err(CliError::host(layout.mount.display().to_string()))?;
    let mut arguments =
        vec!["mount".into(), layout.masters(), layout.mount.display().to_string(), "--foreground".into()];
    for words in layout.mount_words(member) {
        arguments.extend(["-o".into(), words]);
    }
    Ok(arguments)
}
