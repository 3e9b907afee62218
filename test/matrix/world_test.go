package matrix

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite"
)

// A row is what the database says of a VM, read past the daemon.
type row struct {
	id, name, intent, hostKey string
	address                   string
	run                       string // JSON, "" if none
	problem                   string
}

// rows reads the database file, which must be sound, and counts every table.
func (b *box) rows() (vms []row, counts map[string]int, err error) {
	path := filepath.Join(b.State, "banger.db")
	if sound, err := integrity(path); err != nil || sound != "ok" {
		return nil, nil, fmt.Errorf("integrity: %q, %w", sound, err)
	}
	db, err := openDB(path, "ro")
	if err != nil {
		return nil, nil, err
	}
	defer db.Close()
	ctx := context.Background()
	tables, err := collect[string](db, "SELECT name FROM sqlite_master WHERE type = 'table'")
	if err != nil {
		return nil, nil, err
	}
	counts = map[string]int{}
	for _, t := range tables {
		var n int
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM "+t).Scan(&n); err != nil {
			return nil, nil, err
		}
		counts[t] = n
	}
	r, err := db.QueryContext(ctx, "SELECT id, name, intent, host_key, address, coalesce(run, ''), coalesce(problem, '') FROM vm")
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	for r.Next() {
		var v row
		if err := r.Scan(&v.id, &v.name, &v.intent, &v.hostKey, &v.address, &v.run, &v.problem); err != nil {
			return nil, nil, err
		}
		vms = append(vms, v)
	}
	return vms, counts, r.Err()
}

// openDB opens a database past the code under test; mode is ro or rw.
func openDB(path, mode string) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "mode=" + mode + "&_pragma=busy_timeout(10000)"}
	return sql.Open("sqlite", dsn.String())
}

// integrity is what SQLite says of a database: ok.
func integrity(path string) (sound string, err error) {
	db, err := openDB(path, "ro")
	if err != nil {
		return "", err
	}
	defer db.Close()
	err = db.QueryRowContext(context.Background(), "PRAGMA integrity_check").Scan(&sound)
	return sound, err
}

func collect[T any](db *sql.DB, query string) (all []T, err error) {
	r, err := db.QueryContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for r.Next() {
		var v T
		if err := r.Scan(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, r.Err()
}

// A process is one of the installation's.
type process struct {
	pid  int
	argv []string
}

// processes are those that have the installation's directory in their
// arguments, or run as its daemon. A zombie is none.
func (b *box) processes() (all []process, err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil || pid == os.Getpid() {
			continue
		}
		argv, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || len(argv) == 0 {
			continue
		}
		environ, err := os.ReadFile(filepath.Join(d, "environ"))
		if err != nil {
			environ = nil // another user's: its arguments tell
		}
		if bytes.Contains(argv, []byte(b.Dir+"/")) || bytes.Contains(environ, []byte("BANGER_STATE_DIR="+b.State+"\x00")) {
			all = append(all, process{pid, strings.Split(strings.TrimSuffix(string(argv), "\x00"), "\x00")})
		}
	}
	return all, nil
}

func (p process) name() string { return filepath.Base(p.argv[0]) }

// A view adds to the printed world. What banger makes on the host beyond
// processes, files and rows (links, rules, …) gets a view of its own.
type view func(*box, []process) ([]string, error)

var views = []view{viewRows, viewProcesses, viewFiles, viewPorts, viewNetwork}

// world prints all that there is of an installation, alike for all VMs.
func (b *box) world() (string, error) {
	procs, err := b.processes()
	if err != nil {
		return "", err
	}
	var all []string
	for _, v := range views {
		lines, err := v(b, procs)
		if err != nil {
			return "", err
		}
		sort.Strings(lines)
		all = append(all, lines...)
	}
	return strings.Join(all, "\n") + "\n", nil
}

func viewRows(b *box, _ []process) (lines []string, err error) {
	vms, counts, err := b.rows()
	if err != nil {
		return nil, err
	}
	for table, n := range counts {
		lines = append(lines, fmt.Sprintf("table %s: %d", table, n))
	}
	has := map[bool]string{false: "no", true: "a"}
	for _, v := range vms {
		lines = append(lines, fmt.Sprintf("vm %s: intent %s, %s run, %s problem", v.name, v.intent, has[v.run != ""], has[v.problem != ""]))
	}
	return lines, nil
}

func viewProcesses(_ *box, procs []process) (lines []string, err error) {
	for _, p := range procs {
		lines = append(lines, "process "+p.name())
	}
	return lines, nil
}

// viewFiles lists the state and run directories. A VM's logs are not listed
// where its directory is: they are there once it ran.
func viewFiles(b *box, _ []process) (lines []string, err error) {
	vms, _, err := b.rows()
	if err != nil {
		return nil, err
	}
	for _, top := range []string{b.State, b.Run} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(b.Dir, path)
			if err != nil {
				return err
			}
			dir, base := filepath.Split(rel)
			switch {
			case dir == "s/blobs/" || dir == "s/failed/":
				return nil // the image's, and kept on purpose
			case len(vms) > 0 && (base == "serial.log" || base == "vmm.log"):
				return nil
			}
			for _, v := range vms {
				rel = strings.ReplaceAll(rel, v.id, "ID")
			}
			kind := map[fs.FileMode]string{0: "file", fs.ModeDir: "directory", fs.ModeSocket: "socket"}[d.Type()]
			lines = append(lines, fmt.Sprintf("%s %s", orElse(kind, d.Type().String()), rel))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return lines, nil
}

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// viewPorts lists the TCP ports that the installation's processes listen on.
func viewPorts(b *box, procs []process) (lines []string, err error) {
	owner := map[string]string{}
	for _, p := range procs {
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid))
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:[") {
				owner[strings.Trim(strings.TrimPrefix(to, "socket:"), "[]")] = p.name()
			}
		}
	}
	for _, table := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		var text []byte
		var err error
		b.in(func() { text, err = os.ReadFile(table) })
		if err != nil {
			continue // a kernel without IPv6
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			const listens = "0A"
			if len(f) > 9 && f[3] == listens && owner[f[9]] != "" {
				lines = append(lines, fmt.Sprintf("port of %s on %s", owner[f[9]], hexAddr(f[1])))
			}
		}
	}
	if b.host == nil {
		return lines, nil
	}
	names, err := b.namesOf(nil)
	if err != nil {
		return nil, err
	}
	for i := range lines {
		lines[i] = names.Replace(lines[i])
	}
	return lines, nil
}

// hexAddr reads an IPv4 address of /proc/net/tcp; others stay as they are.
func hexAddr(s string) string {
	at, _, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(at, 16, 32)
	if err != nil || len(at) != 8 {
		return at
	}
	return net.IPv4(byte(n), byte(n>>8), byte(n>>16), byte(n>>24)).String()
}

// compare compares the world with the print of testdata for a state, and gives
// it the time to come to be so: a qemu-img whose daemon was killed runs on for
// some milliseconds.
func (b *box) compare(state string) error {
	file := filepath.Join("testdata", b.worlds, state+".world")
	want, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && *update {
		text, err := b.world()
		if err != nil {
			return err
		}
		return os.WriteFile(file, []byte(text), 0o644)
	}
	if err != nil {
		return err
	}
	return until(10*time.Second, func() error {
		got, err := b.world()
		if err != nil {
			return err
		}
		if got != string(want) {
			return fmt.Errorf("%s, and the world differs (-: missing, +: too much):\n%s", state, diff(string(want), got))
		}
		return nil
	})
}

// diff lists the lines that only one of two has.
func diff(want, got string) string {
	count := map[string]int{}
	for l := range strings.Lines(got) {
		count[l]++
	}
	for l := range strings.Lines(want) {
		count[l]--
	}
	var out []string
	for l, n := range count {
		for range n {
			out = append(out, "+ "+l)
		}
		for range -n {
			out = append(out, "- "+l)
		}
	}
	sort.Strings(out)
	return strings.Join(out, "")
}
