//! A Slurm of two nodes on this machine, without root, systemd, cgroups or munge.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_suite::record::host;

use crate::repo::{output, run};
use crate::run::interrupt::{Interrupt, signal};

/// The nodes' names.
const NODES: [&str; 2] = ["n1", "n2"];
/// Longest wait for daemons and jobs.
const PATIENCE: Duration = Duration::from_mins(10);
/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Its processes are those with its configuration in their environment; they end with this.
pub(super) struct Cluster {
    dir: PathBuf,
    config: PathBuf,
    interrupt: Interrupt,
}

impl Cluster {
    /// Starts the daemons and waits until both nodes are idle.
    pub(super) fn start(dir: PathBuf, interrupt: Interrupt) -> Result<Self> {
        let config = dir.join("slurm.conf");
        for name in ["state", "log", "spool.n1", "spool.n2"] {
            fs::create_dir_all(dir.join(name))
                .with_context(|| format!("{} cannot be made", dir.display()))?;
        }
        let text = configuration(&dir)?;
        fs::write(&config, text).with_context(|| format!("{} cannot be written", config.display()))?;
        let cluster = Self { dir, config, interrupt };
        cluster.start_controller()?;
        NODES.iter().try_for_each(|node| cluster.start_node(node, ""))?;
        cluster.until_idle()?;
        Ok(cluster)
    }

    /// Makes a command talk to this cluster.
    pub(super) fn address(&self, command: &mut Command) {
        command.env("SLURM_CONF", &self.config);
    }

    /// Waits until `done`; an error says for what in vain.
    pub(super) fn wait(&self, what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
        let started = Instant::now();
        while !done() {
            self.interrupt.check()?;
            if started.elapsed() > PATIENCE {
                bail!("waited {} s in vain for {what}", PATIENCE.as_secs());
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.address(&mut command);
        // Where daemons are, which is not in everybody's path.
        command.env("PATH", env::var("PATH").unwrap_or_default() + ":/usr/sbin");
        command
    }

    pub(super) fn start_controller(&self) -> Result<()> {
        run(self.command("slurmctld").arg("-f").arg(&self.config).stdout(Stdio::null()))
    }

    fn start_node(&self, node: &str, limits: &str) -> Result<()> {
        let mut shell = self.command("sh");
        shell.args(["-c", &format!("{limits}\nexec slurmd -f \"$SLURM_CONF\" -N {node}")]);
        run(shell.env("SLURMD_NODENAME", node).stdout(Stdio::null()))
    }

    /// Ends a node: its daemon and everything that it had started.
    pub(super) fn kill_node(&self, node: &str) {
        let mark = format!("SLURMD_NODENAME={node}");
        self.kill(|environment| environment.contains(&mark));
    }

    /// Ends a node's daemon alone: what it had started lives on.
    pub(super) fn kill_daemon(&self, node: &str) -> Result<()> {
        signal("-KILL", &[self.pid(&format!("slurmd.{node}.pid"))?]);
        Ok(())
    }

    /// Stops the tasks of a node, or lets them go on.
    pub(super) fn pause(&self, node: &str, stop: bool) {
        let marks = [format!("SLURMD_NODENAME={node}"), "SLURM_ARRAY_TASK_ID=".to_owned()];
        let tasks = self.processes(|environment| marks.iter().all(|mark| environment.contains(mark)));
        signal(if stop { "-STOP" } else { "-CONT" }, &tasks);
    }

    pub(super) fn kill_controller(&self) -> Result<()> {
        signal("-KILL", &[self.pid("slurmctld.pid")?]);
        Ok(())
    }

    /// Ends both nodes and starts them anew after the words of a shell, which may limit them.
    pub(super) fn restart_nodes(&self, limits: &str) -> Result<()> {
        for node in NODES {
            self.kill_node(node);
            self.start_node(node, limits)?;
        }
        self.until_idle()
    }

    /// `index` and `node` of every array task that runs.
    pub(super) fn running(&self) -> Vec<(usize, String)> {
        let mut squeue = self.command("squeue");
        let found = output(squeue.args(["--noheader", "--array", "--states=RUNNING", "--format=%K|%N"]))
            .unwrap_or_default();
        let task = |line: &str| {
            let (index, node) = line.trim().split_once('|')?;
            Some((index.parse().ok()?, node.to_owned()))
        };
        found.lines().filter_map(task).collect()
    }

    /// Waits until no job is left.
    pub(super) fn until_empty(&self) -> Result<()> {
        self.wait("the queue to be empty", || self.is_empty())
    }

    /// Waits until `done`, while every task stands still three quarters of the time.
    pub(super) fn slow_motion(&self, what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
        self.wait(what, || {
            for (stop, tenths) in [(true, 9), (false, 3)] {
                for node in NODES {
                    self.pause(node, stop);
                }
                thread::sleep(Duration::from_millis(100 * tenths));
            }
            done()
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        output(self.command("squeue").arg("--noheader")).is_some_and(|jobs| jobs.is_empty())
    }

    /// Waits until both nodes wait for jobs.
    pub(super) fn until_idle(&self) -> Result<()> {
        self.wait("two idle nodes", || {
            let states = output(self.command("sinfo").args(["--noheader", "--Node", "--format=%T"]));
            states
                .is_some_and(|states| states.lines().filter(|state| *state == "idle").count() == NODES.len())
        })
    }

    fn pid(&self, file: &str) -> Result<u32> {
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        text.trim().parse().with_context(|| format!("{} holds no process", path.display()))
    }

    /// Ends the processes that are `wanted`, each after the step daemon that watches it: a step daemon writes its title
    /// over its environment.
    fn kill(&self, wanted: impl Fn(&str) -> bool) {
        let processes = self.processes(wanted);
        let watched = |pid: u32| {
            let stepd = parent(Path::new(&format!("/proc/{pid}"))).filter(|parent| {
                let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
                name.starts_with("slurmstepd")
            });
            stepd.into_iter().chain([pid])
        };
        signal("-KILL", &processes.into_iter().flat_map(watched).collect::<Vec<_>>());
    }

    /// Processes whose environment names this cluster and is `wanted`.
    fn processes(&self, wanted: impl Fn(&str) -> bool) -> Vec<u32> {
        let mark = format!("SLURM_CONF={}", self.config.display());
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path()) {
            let Some(pid) = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else {
                continue;
            };
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment);
            if environment.split('\0').any(|variable| variable == mark) && wanted(&environment) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill(|_| true);
    }
}

fn parent(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

fn configuration(dir: &Path) -> Result<String> {
    // All three are held until the last is known, so that they differ.
    let ports: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().context("no free port")?;
    let ports: Vec<u16> = ports.iter().map(|port| Ok(port.local_addr()?.port())).collect::<Result<_>>()?;
    let host = host();
    let host = host.split('.').next().unwrap_or_default();
    let user = output(Command::new("id").arg("-un")).context("this user has no name")?;
    let dir = dir.display();
    Ok(format!(
        "ClusterName=stress
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmctldPort={}
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool.%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd.%n.pid
SlurmctldLogFile={dir}/log/slurmctld.log
SlurmdLogFile={dir}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdTimeout=5
KillWait=3
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=4 RealMemory=16000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=4 RealMemory=16000 State=UNKNOWN
PartitionName=stress Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
",
        ports[0], ports[1], ports[2]
    ))
}
