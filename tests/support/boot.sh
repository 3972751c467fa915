#!/bin/bash
# Boot a machine in namespaces: systemd as PID 1 over ROOT, which stays as it is (an overlay in memory takes all writes).
# usage: boot.sh ROOT SETUP [own-network]   run by `unshare --mount --pid --fork --cgroup --ipc --uts`; SETUP prepares the new root.
set -euo pipefail
root=$1 setup=$2 network=$3
work=$(dirname "$setup")/overlay && mkdir "$work" && mount -t tmpfs -o size=2G tmpfs "$work" && mkdir "$work"/{upper,work,root}
mount -t overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
cd "$work/root"
mkdir -p proc sys dev run tmp
mount -t proc proc proc
if [ "$network" = own-network ]; then
  # Interfaces come and go here: udevd says so to systemd, by one rule, and asks the kernel for no other device.
  mount -t sysfs sysfs sys
  ip link set lo up
  mount -t tmpfs tmpfs usr/lib/udev/rules.d
  echo 'SUBSYSTEM=="net", TAG+="systemd", ENV{SYSTEMD_ALIAS}+="/sys/subsystem/net/devices/$name"' > usr/lib/udev/rules.d/99-net.rules
  for unit in udev-trigger modules-load sysctl; do ln -sf /dev/null etc/systemd/system/systemd-$unit.service; done
else
  mount -t sysfs -o ro sysfs sys   # read-only: no udev of ours may touch the real devices
fi
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev && mkdir dev/{pts,shm}
for node in null zero full random urandom tty; do cp -a "/dev/$node" dev/; done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts && ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: > dev/console
for folder in run tmp; do mount -t tmpfs -o mode=755 tmpfs $folder; done
chmod 1777 tmp
[ "$network" != own-network ] || { mkdir run/udev && touch run/udev/control; }  # or systemd takes it that udevd never comes
printf '%032x\n' 1 > etc/machine-id
"$setup" "$work/root"
mkdir -p mnt && pivot_root . mnt && umount -l /mnt
exec env -i container=vouch PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=vouch-machine.target
