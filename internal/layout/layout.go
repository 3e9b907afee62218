// Package layout decides where everything lies; no other package joins a path
// of banger's own. Nothing is made or read here but the directories themselves
// (Prepare).
//
//	STATE/                    BANGER_STATE_DIR, else $XDG_STATE_HOME/banger; root: /var/lib/banger
//	  banger.db               SQLite: what was asked for, leased and intended (and -wal, -shm)
//	  daemon.lock             held by the daemon as long as it lives; says where it listens
//	  daemon.log              its log, JSON
//	  id_ed25519              the installation's SSH key
//	  ssh/config, known_hosts what ssh(1) must know of all VMs; follows them
//	  blobs/HEX               an artifact that VMs may name, by its SHA-256
//	  vms/ID/                 0700, of the user that the VMM runs as
//	    disk.qcow2            root disk
//	    work.img              work disk
//	    qmp.sock              the VMM's control socket
//	    net.sock, net.pid     of the process that is the VM's network, while it runs
//	    serial.log, vmm.log   what the guest's console and the VMM said
//	  failed/                 logs of starts that failed
//	RUN/                      BANGER_RUN_DIR, else $XDG_RUNTIME_DIR/banger, /run/user/UID/banger,
//	                          STATE/run, whichever is usable first; root: /run/banger
//	  bangerd.sock            the daemon's socket, unless BANGER_SOCKET says otherwise
//	  booted                  boot ID of the host in which the VMs that start with the daemon did
//	  vms/ID/LAUNCH.initrd    0700: the joined initramfs, until the VMM has read it
//	CONFIG/config.toml        $XDG_CONFIG_HOME/banger, unless BANGER_CONFIG names a file
//	DATA/runtime/             $XDG_DATA_HOME/banger: the last place to look for a bundle
//
// RUN may vanish at any time (a logout empties /run/user): only what a later
// daemon can do without lies there.
package layout

import (
	"path/filepath"

	"banger"
)

// A Layout is the directories of one installation, all absolute. Resolve makes
// one from the environment.
type Layout struct {
	State, Run, Config, Data string

	root       bool // the daemon is root: VMMs run as other users and must get through
	socket     string
	configFile string
}

// DB is the database.
func (l Layout) DB() string { return filepath.Join(l.State, "banger.db") }

// Lock is the daemon's lock file.
func (l Layout) Lock() string { return filepath.Join(l.State, "daemon.lock") }

// DaemonLog is the daemon's own log.
func (l Layout) DaemonLog() string { return filepath.Join(l.State, "daemon.log") }

// Key is the installation's private SSH key.
func (l Layout) Key() string { return filepath.Join(l.State, "id_ed25519") }

// SSHDir holds what is for ssh(1) and its kin.
func (l Layout) SSHDir() string { return filepath.Join(l.State, "ssh") }

// SSHConfig is a configuration of all VMs, SSHKnownHosts their host keys.
func (l Layout) SSHConfig() string     { return filepath.Join(l.SSHDir(), "config") }
func (l Layout) SSHKnownHosts() string { return filepath.Join(l.SSHDir(), "known_hosts") }

// SSHNote remembers what banger ssh-config install has made.
func (l Layout) SSHNote() string { return filepath.Join(l.SSHDir(), "installed") }

// Blobs holds the registered artifacts; Blob is one of them.
func (l Layout) Blobs() string               { return filepath.Join(l.State, "blobs") }
func (l Layout) Blob(d banger.Digest) string { return filepath.Join(l.Blobs(), d.Hex()) }

// VMs holds a directory per VM; VMDir is one of them.
func (l Layout) VMs() string                 { return filepath.Join(l.State, "vms") }
func (l Layout) VMDir(id banger.VMID) string { return filepath.Join(l.VMs(), string(id)) }

// NetSocket is where a VMM joins the process that is its VM's network, NetMark
// that process's PID file.
func (l Layout) NetSocket(id banger.VMID) string { return filepath.Join(l.VMDir(id), "net.sock") }
func (l Layout) NetMark(id banger.VMID) string   { return filepath.Join(l.VMDir(id), "net.pid") }

// Serial is what a VM's console said, VMMLog what its VMM said.
func (l Layout) Serial(id banger.VMID) string { return filepath.Join(l.VMDir(id), "serial.log") }
func (l Layout) VMMLog(id banger.VMID) string { return filepath.Join(l.VMDir(id), "vmm.log") }

// Failed keeps the logs of starts that failed, whose VM may be gone.
func (l Layout) Failed() string { return filepath.Join(l.State, "failed") }

// RunVMs holds the volatile directory of each VM; RunVMDir is one of them.
func (l Layout) RunVMs() string                 { return filepath.Join(l.Run, "vms") }
func (l Layout) RunVMDir(id banger.VMID) string { return filepath.Join(l.RunVMs(), string(id)) }

// Initrd is the joined initramfs of one launch.
func (l Layout) Initrd(id banger.VMID, launch string) string {
	return filepath.Join(l.RunVMDir(id), launch+".initrd")
}

// Booted says in which boot of the host the VMs that start with the daemon
// were started; with RUN it goes at a reboot.
func (l Layout) Booted() string { return filepath.Join(l.Run, "booted") }

// Socket is where the daemon listens.
func (l Layout) Socket() string {
	if l.socket != "" {
		return l.socket
	}
	return filepath.Join(l.Run, "bangerd.sock")
}

// ConfigFile is the configuration file; it need not exist.
func (l Layout) ConfigFile() string {
	if l.configFile != "" {
		return l.configFile
	}
	return filepath.Join(l.Config, "config.toml")
}

// BundleSearch lists the directories in which a runtime bundle is looked for,
// in order and without repeats: named (a flag's, the environment's, the
// configuration's; empty ones are passed over), then where a checkout and an
// installed banger have it, seen from exe, the running program with symlinks
// resolved, then the user's data.
func (l Layout) BundleSearch(named []string, exe string) []string {
	all := named
	if exe != "" {
		bin := filepath.Dir(exe)
		all = append(all[:len(all):len(all)],
			filepath.Join(bin, "..", "runtime"),
			filepath.Join(bin, "..", "lib", "banger"))
	}
	all = append(all[:len(all):len(all)], filepath.Join(l.Data, "runtime"))
	var dirs []string
	seen := map[string]bool{"": true}
	for _, d := range all {
		if !seen[d] {
			seen[d] = true
			dirs = append(dirs, d)
		}
	}
	return dirs
}
