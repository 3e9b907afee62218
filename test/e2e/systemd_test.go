package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// prepareUser makes a user with a manager of his own. Its drop-in does what pam_systemd, which the image does not have, does for a
// user's manager.
const prepareUser = `
mkdir -p /run/systemd/system/user@.service.d
printf '[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%%i\n' >/run/systemd/system/user@.service.d/runtime.conf
systemctl daemon-reload
useradd -m -u 1000 -s /bin/bash dev
systemctl start user@1000
test -S /run/user/1000/systemd/private`

// A real systemd: banger in a guest that has one, as an ordinary user. Nothing
// nested runs: a stand-in is put where a VMM would be.
func TestUnderSystemd(t *testing.T) {
	b := fresh(t)
	b.boot("sys", "--memory", "512MiB", "--cpu", "2")
	b.booted("sys")
	b.put("sys", "/usr/local/bin", filepath.Join(b.Bin, "banger"), filepath.Join(b.Bin, "bangerd"), filepath.Join(b.Bin, "banger-guest"))
	b.in("sys", "chmod 755 /usr/local/bin/*"+prepareUser)
	as := func(script string) string {
		t.Helper()
		return strings.TrimSpace(b.ok("exec", "-n", "sys", "-u", "dev", "-e", "XDG_RUNTIME_DIR=/run/user/1000", "--", "sh", "-c", script))
	}
	cgroup := func(pid string) string { return filepath.Base(b.in("sys", "cat /proc/"+pid+"/cgroup")) }

	// On demand, without lingering and outside the manager: the daemon stays
	// where it was started, and doctor says what would change that.
	as("banger vm list")
	first := as("banger daemon status -q")
	if got := cgroup(first); strings.HasSuffix(got, ".scope") {
		t.Errorf("without lingering the daemon is in %s", got)
	}
	if got := as("banger doctor || true"); !strings.Contains(got, "lingering is off") || !strings.Contains(got, "loginctl enable-linger") {
		t.Errorf("doctor says:\n%s", got)
	}
	b.in("sys", "mkdir -p /var/lib/systemd/linger && touch /var/lib/systemd/linger/dev")
	as("banger daemon restart")
	if got := cgroup(as("banger daemon status -q")); !strings.HasPrefix(got, "banger-") || !strings.HasSuffix(got, ".scope") {
		t.Errorf("with lingering the daemon is in %s", got)
	}

	path := as("banger daemon install")
	pid := as("banger daemon status -q")
	unit := func(p string) string { return as("systemctl --user show --value -p " + p + " bangerd") }
	if unit("MainPID") != pid || unit("UnitFileState") != "enabled" || cgroup(pid) != "bangerd.service" {
		t.Errorf("installed: daemon %s, unit %s %s", pid, unit("MainPID"), unit("UnitFileState"))
	}
	standIn := b.in("sys", "group=$(sed -n s/^0:://p /proc/"+pid+"/cgroup); setsid sleep infinity >/dev/null 2>&1 & "+
		"echo $! >/sys/fs/cgroup$group/cgroup.procs; echo $!")
	lives := func(when string) {
		t.Helper()
		if got := cgroup(standIn); got != "bangerd.service" {
			t.Errorf("%s the stand-in for a VMM is in %s", when, got)
		}
	}
	lives("at first")

	// Killed: the unit starts it again.
	b.in("sys", "kill -9 "+pid)
	as("until [ $(systemctl --user show --value -p NRestarts bangerd) = 1 ]; do :; done; banger vm list")
	if again := as("banger daemon status -q"); again == pid || unit("MainPID") != again {
		t.Errorf("killed as %s, runs as %s, unit %s", pid, again, unit("MainPID"))
	}
	lives("after a kill")

	// Stopped and started, by systemctl and by banger: by the unit each time.
	as("systemctl --user stop bangerd")
	lives("after a stop")
	if r := b.run("exec", "-n", "sys", "-u", "dev", "-e", "XDG_RUNTIME_DIR=/run/user/1000", "--", "banger", "daemon", "status"); r.code != 5 {
		t.Errorf("after a stop: %+v", r)
	}
	as("banger vm list")
	if unit("ActiveState") != "active" || unit("MainPID") != as("banger daemon status -q") {
		t.Error("a command starts the daemon without its unit")
	}
	as("systemctl --user restart bangerd; banger daemon restart")
	if unit("MainPID") != as("banger daemon status -q") {
		t.Error("restart starts the daemon without its unit")
	}
	lives("after two restarts")

	as("banger daemon uninstall")
	if got := as("ls " + path + " 2>&1; systemctl --user is-active bangerd; find ~/.config/systemd -type f -o -type l"); strings.Contains(got, path+"\n") && !strings.Contains(got, "No such file") || !strings.Contains(got, "inactive") {
		t.Errorf("uninstalled: %s", got)
	}
	if got := b.in("sys", "kill "+standIn+" && echo lived"); got != "lived" {
		t.Error("uninstall ended the stand-in")
	}
}
