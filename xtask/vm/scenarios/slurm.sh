# Slurm shows what memmon did: a hook writes it into the job's AdminComment, which sacct shows, and to the job's standard error.
# munge, MariaDB, slurmdbd, slurmctld and slurmd are Debian's, on one node.
address=10.9.9.9
ip address add $address/32 dev lo
hostname node1
echo "$address node1" >>/etc/hosts
mkdir -p /var/lib/slurm/ctld /var/lib/slurm/d /etc/slurm
cat >/etc/slurm/slurmdbd.conf <<'END'
AuthType=auth/munge
DbdHost=node1
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
MessageTimeout=100
END
chown -R slurm: /var/lib/slurm /etc/slurm/slurmdbd.conf
chmod 600 /etc/slurm/slurmdbd.conf
cat >/etc/slurm/slurm.conf <<END
ClusterName=vm
SlurmctldHost=node1($address)
SlurmUser=slurm
AuthType=auth/munge
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=node1
StateSaveLocation=/var/lib/slurm/ctld
SlurmdSpoolDir=/var/lib/slurm/d
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
MessageTimeout=100
NodeName=node1 NodeAddr=$address CPUs=2 State=UNKNOWN
PartitionName=main Nodes=node1 Default=YES MaxTime=INFINITE State=UP
END
: >/etc/slurm/cgroup.conf
printf '[mysqld]\ninnodb_buffer_pool_size=64M\n' >/etc/mysql/mariadb.conf.d/90-small.cnf

systemctl start munge mariadb
mariadb -e "create database slurm_acct_db; create user slurm@localhost identified by 'slurm';
    grant all on slurm_acct_db.* to slurm@localhost"
systemctl start slurmdbd
within $PATIENCE sacctmgr --immediate add cluster vm || fail "slurmdbd: $(journalctl -u slurmdbd -o cat -n 3 | tr '\n' '|')"
systemctl start slurmctld slurmd
is_idle() { sinfo --noheader --format=%t | grep -q idle; }
within $PATIENCE is_idle || fail "no node: $(sinfo | tail -n 1) $(journalctl -u slurmd -u slurmctld -o cat -n 6 | tr '\n' '|')"

# As docs/slurm.md has it.
install -D -m 755 contrib/slurm/memmon-slurm /usr/local/lib/memmon/memmon-slurm
drop_in=/run/systemd/system/memmon.service.d/slurm.conf
mkdir -p "$(dirname $drop_in)"
cat >$drop_in <<END
[Service]
PrivateNetwork=no
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
IPAddressAllow=$address
END
systemctl daemon-reload
configure 'interval = 1' 'hook_timeout = 120'
sed -i 's|^\[notify\].*|&\nhook = "/usr/local/lib/memmon/memmon-slurm"\nhook_user = "root"|' $CONFIG
printf '\n[scope]\nuids = ["1000-59999"]\n' >>$CONFIG
systemctl stop memmon.service
memmon_starts

cd /tmp
submit() { setpriv --reuid=1000 --regid=1000 --clear-groups sbatch --parsable --output="/tmp/$1.out" --error="/tmp/$1.err"; }
accounting() { sacct --noheader --allocations --parsable2 --jobs="$1" --format=State,ExitCode,AdminComment; }
shows() { accounting "$1" | grep -qE -- "$2"; }
must_show() { within $PATIENCE shows "$1" "$2" || fail "sacct: $(accounting "$1"), not $2; $(said hook | tail -n 4 | tr '\n' '|')"; }

# A job that continues after the end of its step: its owner reads the reason in its standard error.
step=$(submit step <<'END'
#!/bin/bash
srun /usr/local/lib/memmon-vm/hog anon 120M hold < <(exec sleep infinity)
echo next
until [ -e /tmp/continue ]; do sleep 1; done
END
)
must_say "Terminated: PID=[0-9]+, Name=hog, User=alice"
message='memmon terminated hog \(pid [0-9]+, step 0(, task 0)?(, node node1)?\) with 0\.1[0-9]GB of memory: its memory limit is 0\.[01][0-9]GB'
within $PATIENCE grep -E "$message" /tmp/step.err || fail "its stderr: $(tr '\n' '|' </tmp/step.err); $(said hook | tail -n 4 | tr '\n' '|')"
grep next /tmp/step.out || fail 'the job did not continue'
touch /tmp/continue
must_show $step "^COMPLETED\|0:0\|$message$"

# A job that ends with the process: slurmctld takes no comment any more, and slurmdbd does.
alone=$(submit alone <<'END'
#!/bin/bash
exec /usr/local/lib/memmon-vm/hog anon 120M hold < <(exec sleep infinity)
END
)
must_show $alone "^FAILED\|0:15\|memmon terminated hog \(pid [0-9]+, step batch"
note "$(accounting $step) / $(accounting $alone)"

cd $PLACE
systemctl stop slurmd slurmctld slurmdbd mariadb munge
rm -r $drop_in /usr/local/lib/memmon /tmp/continue
systemctl daemon-reload
configure
systemctl restart memmon.service
hostname vm
ip address delete $address/32 dev lo
