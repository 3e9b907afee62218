// Package sshconfig writes what ssh(1) must know of an installation's VMs: a
// Host block for each, and a known_hosts file with the host keys that banger
// itself made, so that none is ever taken on trust. It also puts the one Include
// line into a user's own configuration and takes it out again.
package sshconfig

import (
	"fmt"
	"strings"

	"banger"
)

// A Host is one VM as ssh(1) is to know it.
type Host struct {
	ID        banger.VMID
	Name      string // of the VM: its host is NAME.vm
	PublicKey string // its host key, authorized_keys format
}

// An Installation is what all hosts have in common.
type Installation struct {
	Proxy      []string // argv of a program that, given a VM's ID, joins its streams to the VM's SSH port
	User       string
	Identity   string // path of the private key
	KnownHosts string // path of the file that KnownHosts writes
}

// Domain ends the names of hosts.
const Domain = ".vm"

// alias is what a host's key is filed under, whatever the VM is called.
func alias(h Host) string { return "banger-" + string(h.ID) }

// Block is the configuration of one host. The VM is reached through banger, not
// by an address: its port may be another at each start, and a VM that is still
// booting is waited for.
func Block(in Installation, h Host) (string, error) {
	kind, _, err := splitKey(h)
	if err != nil {
		return "", err
	}
	var proxy []string
	for _, word := range append(in.Proxy, string(h.ID)) {
		proxy = append(proxy, shellQuote(strings.ReplaceAll(word, "%", "%%")))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Host %s%s\n", h.Name, Domain)
	for _, o := range [][2]string{
		{"User", in.User},
		{"ProxyCommand", strings.Join(proxy, " ")},
		{"IdentityFile", Quote(in.Identity)},
		{"IdentitiesOnly", "yes"},
		{"PreferredAuthentications", "publickey"},
		{"HostKeyAlias", alias(h)},
		{"HostKeyAlgorithms", kind},
		{"StrictHostKeyChecking", "yes"},
		{"UserKnownHostsFile", Quote(in.KnownHosts)},
		{"GlobalKnownHostsFile", "none"},
		{"UpdateHostKeys", "no"},
		{"CheckHostIP", "no"},
	} {
		fmt.Fprintf(&b, "    %s %s\n", o[0], o[1])
	}
	return b.String(), nil
}

// Files are the configuration of all hosts and their known_hosts. A host that
// cannot be written is left out, and its error returned beside the others.
func Files(in Installation, hosts []Host) (config, known string, errs []error) {
	var c, k strings.Builder
	c.WriteString("# Written by bangerd whenever a VM comes or goes: what is changed here is lost.\n")
	for _, h := range hosts {
		block, err := Block(in, h)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		kind, key, _ := splitKey(h)
		c.WriteString("\n" + block)
		fmt.Fprintf(&k, "%s %s %s\n", alias(h), kind, key)
	}
	return c.String(), k.String(), errs
}

// splitKey takes a public key apart, and refuses a host that could bring lines
// of its own.
func splitKey(h Host) (kind, key string, err error) {
	f := strings.Fields(h.PublicKey)
	if len(f) < 2 || !Plain(f[0]) || !Plain(f[1]) {
		return "", "", banger.Errorf(banger.Internal, "the host key of %s is not a public key", h.Name)
	}
	if banger.ValidName(h.Name) != nil || !Plain(string(h.ID)) {
		return "", "", banger.Errorf(banger.Internal, "%q is no host name", h.Name)
	}
	return f[0], f[1], nil
}

// Quote writes a path as ssh_config(5) reads it: in double quotes, with the
// percent of its tokens doubled.
func Quote(path string) string {
	r := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`)
	return `"` + r.Replace(path) + `"`
}

// Plain says whether s is one word without a meaning to ssh_config(5).
func Plain(s string) bool {
	if s == "" || s[0] == '-' {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("+/=-_.:@", c) {
			return false
		}
	}
	return true
}

// shellQuote writes a word for the shell that runs a ProxyCommand.
func shellQuote(s string) string {
	if Plain(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
