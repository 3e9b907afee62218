package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

// appliedFile remembers on the root disk what was written into /etc last: what
// the user changes there afterwards stays, until the VM gets another identity.
const appliedFile = "/var/lib/banger/applied.json"

// An appliedIdentity is the part of an identity that /etc holds.
type appliedIdentity struct {
	VM        string   `json:"vm"`
	Hostname  string   `json:"hostname"`
	MachineID string   `json:"machine_id"`
	Address   string   `json:"address"`
	Resolvers []string `json:"resolvers"`
}

func (a appliedIdentity) equal(b appliedIdentity) bool {
	return a.VM == b.VM && a.Hostname == b.Hostname && a.MachineID == b.MachineID && a.Address == b.Address && slices.Equal(a.Resolvers, b.Resolvers)
}

func appliedOf(id guestapi.Identity) appliedIdentity {
	a := appliedIdentity{VM: id.VM, Hostname: id.Hostname, MachineID: id.MachineID, Address: id.Address.Addr().String()}
	for _, r := range id.Resolvers {
		a.Resolvers = append(a.Resolvers, r.String())
	}
	return a
}

// applyIdentity makes the new root this VM's: the files in /etc when they are
// another's, those in /run always. It does all that it can and returns what it
// could not.
func applyIdentity(id guestapi.Identity, readOnly bool) error {
	now := appliedOf(id)
	var before appliedIdentity
	if text, err := os.ReadFile(appliedFile); err == nil {
		json.Unmarshal(text, &before) // unreadable: another's
	}
	name := id.Hostname
	var errs []error
	if before.equal(now) {
		if own := firstLine("/etc/hostname"); validHostname(own) {
			name = own
		}
	} else {
		errs = append(errs, writeEtc(now, before, readOnly))
		if !readOnly { // whoever made it so has given the image's server its keys
			errs = append(errs, writeHostKey(id.HostKey), writeSSHDropIn())
		}
	}
	errs = append(errs,
		unix.Sethostname([]byte(name)),
		writeResolvConf(now, !before.equal(now), readOnly),
		writeManagers(id),
		writeConsole(),
	)
	return errors.Join(errs...)
}

func firstLine(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// writeEtc writes the files that hold the identity, and remembers that it did
// only when all went well: the next boot tries again.
func writeEtc(now, before appliedIdentity, readOnly bool) error {
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	put := putFile
	if readOnly {
		put = coverFile
	}
	err = errors.Join(
		put("/etc/hostname", now.Hostname+"\n", 0o644),
		put("/etc/machine-id", now.MachineID+"\n", 0o444),
		put("/etc/hosts", hostsFile(string(hosts), before.Hostname, now), 0o644),
	)
	if err != nil || readOnly {
		return err
	}
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return putFile(appliedFile, string(text)+"\n", 0o644)
}

// putFile replaces a file as a whole, or is not seen to have done anything: the
// VM may be killed at any moment. A symlink is followed.
func putFile(file, content string, mode os.FileMode) error {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	if old, err := os.ReadFile(file); err == nil && string(old) == content {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	tmp := file + ".banger-new"
	if err := os.WriteFile(tmp, []byte(content), mode); err != nil {
		return err
	}
	if err := os.Rename(tmp, file); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}

// coverFile shows content in the place of a file that cannot be written: a bind
// mount from /run. Where there is no file there is nothing to cover.
func coverFile(file, content string, mode os.FileMode) error {
	own := filepath.Join(coversDir, strings.ReplaceAll(strings.Trim(file, "/"), "/", "-"))
	if err := os.MkdirAll(coversDir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(own, []byte(content), mode); err != nil {
		return err
	}
	if err := unix.Mount(own, file, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cover %s: %w", file, err)
	}
	return nil
}

// hostsTag marks the line of /etc/hosts that is banger's.
const hostsTag = "# banger"

// hostsFile returns /etc/hosts with this VM's name in it, without what stood
// there for the name it had.
func hostsFile(text, oldName string, now appliedIdentity) string {
	var b strings.Builder
	local := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		f := strings.Fields(line)
		if strings.HasSuffix(line, hostsTag) || len(f) == 2 && f[0] == "127.0.1.1" && (f[1] == oldName || f[1] == now.Hostname) {
			continue
		}
		local = local || len(f) > 1 && (f[0] == "127.0.0.1" || f[0] == "::1")
		b.WriteString(line + "\n")
	}
	if !local {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	}
	fmt.Fprintf(&b, "%s\t%s\t%s\n", now.Address, now.Hostname, hostsTag)
	return b.String()
}
