package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module   = "banger"
	maxLines = 500
)

// may is the architecture: what each package may import from this module.
// "." is the root package. A package not listed here does not belong.
var may = map[string]string{
	".":                              "",
	"cmd/banger":                     "internal/cli",
	"cmd/bangerd":                    "internal/daemon",
	"cmd/banger-root":                "internal/privileged/server",
	"cmd/banger-guest":               "internal/guestapi internal/inguest/boot internal/inguest/sshd",
	"internal/archtest":              "",
	"internal/version":               "",
	"internal/vmlinux":               "",
	"internal/layout":                ".",
	"internal/config":                ". internal/layout",
	"internal/reflink":               "",
	"internal/rawtext":               "",
	"internal/initramfs":             "",
	"internal/filetree":              "",
	"internal/guestapi":              "internal/rawtext",
	"internal/steps":                 "",
	"internal/keylock":               "",
	"internal/op":                    ".",
	"internal/host":                  ".",
	"internal/storage":               ".",
	"internal/storage/diskfile":      ". internal/storage",
	"internal/storage/overlay":       ". internal/storage internal/storage/diskfile internal/host",
	"internal/storage/dmsnap":        ". internal/storage internal/storage/diskfile",
	"internal/blockdev":              ". internal/fault",
	"internal/storage/clone":         ". internal/storage internal/storage/diskfile internal/reflink",
	"internal/storage/workdisk":      ". internal/storage internal/storage/diskfile internal/host",
	"internal/storage/storagetest":   ". internal/storage",
	"internal/network":               ".",
	"internal/network/addr":          ". internal/network",
	"internal/network/usernet":       ". internal/network internal/network/usernet/passt internal/host",
	"internal/network/usernet/passt": ". internal/host",
	"internal/network/routed":        ". internal/network internal/network/routed/proxy",
	"internal/network/routed/proxy":  ". internal/network",
	"internal/network/link":          ". internal/network internal/network/addr internal/fault",
	"internal/fault":                 "",
	"internal/privileged":            ". internal/network",
	"internal/privileged/server":     ". internal/blockdev internal/fault internal/network internal/network/link internal/privileged",
	"internal/privileged/client":     ". internal/network internal/privileged",
	"internal/dns":                   ". internal/network",
	"internal/resolver":              ".",
	"internal/vmm":                   ".",
	"internal/vmm/kvm":               ".",
	"internal/vmm/process":           ". internal/host",
	"internal/vmm/qemu":              ". internal/vmm internal/vmm/kvm internal/vmm/process internal/host",
	"internal/vmm/firecracker":       ". internal/vmm internal/vmm/kvm internal/vmm/process internal/host internal/guestapi",
	"internal/vmm/vmmtest":           ". internal/vmm",
	"internal/guest":                 ". internal/guestapi",
	"internal/inguest/boot":          "internal/guestapi internal/inguest/boot/seed",
	"internal/inguest/boot/seed":     "",
	"internal/inguest/sshd":          "internal/guestapi internal/filetree",
	"internal/store":                 ".",
	"internal/usermanager":           ".",
	"internal/doctor":                ".",
	"internal/image":                 ". internal/reflink",
	"internal/bundle":                ". internal/host internal/initramfs internal/vmlinux",
	"internal/vm":                    ". internal/storage internal/network internal/vmm internal/guest internal/guestapi internal/initramfs internal/steps internal/keylock",
	"internal/api":                   ". internal/rawtext",
	"internal/api/client":            ". internal/api",
	"internal/daemon/handler":        ". internal/api internal/guestapi internal/op internal/version internal/vm internal/guest internal/image internal/bundle internal/doctor",
	"internal/daemon":                "*",
	"test/sandbox":                   ". internal/api internal/api/client",
	"test/report":                    "",
	"test/bench":                     ". internal/api internal/api/client internal/dns internal/network internal/network/addr internal/network/link internal/privileged/client internal/vmlinux test/netns test/sandbox",
	"test/lab":                       "",
	"test/netns":                     "",
	"internal/cli/streams":           "",
	"internal/cli/launch":            ". internal/api internal/api/client internal/layout internal/version internal/cli/streams internal/usermanager",
	"internal/sshconfig":             ".",
	"internal/cli/sshconfigcmd":      ". internal/api internal/cli/streams internal/sshconfig",
	"internal/cli/dnscmd":            ". internal/api internal/cli/streams internal/resolver",
	"internal/cli/sshexec":           ". internal/cli/streams internal/sshconfig",
	"internal/cli/vmcmd":             ". internal/api internal/api/client internal/rawtext internal/cli/streams internal/cli/sshexec internal/filetree",
	"internal/cli/imagecmd":          ". internal/api internal/api/client internal/cli/streams",
	"internal/cli/bundlecmd":         ". internal/api internal/api/client internal/cli/streams",
	"internal/cli/systemcmd":         ". internal/api internal/api/client internal/version internal/cli/streams internal/cli/launch",
	"internal/cli":                   ". internal/layout internal/api/client internal/config internal/version internal/cli/streams internal/cli/launch internal/cli/sshexec internal/cli/vmcmd internal/cli/imagecmd internal/cli/bundlecmd internal/cli/systemcmd internal/cli/sshconfigcmd internal/cli/dnscmd internal/resolver internal/sshconfig",
}

// mayStart are the only packages that may start a host process, and why.
var mayStart = map[string]string{
	"test/sandbox":               "tests: a daemon of its own",
	"test/bench":                 "measures banger's programs",
	"test/lab":                   "tests: QEMU and what makes its disks",
	"internal/host":              "the approved shell-out layer",
	"internal/cli/launch":        "starts bangerd on demand",
	"internal/privileged/server": "banger-root starts itself once more, to detach from sudo",
	"internal/cli/dnscmd":        "asks getent(1), has the host's resolver read its configuration anew",
	"internal/cli/sshexec":       "becomes ssh(1), starts $EDITOR",
	"internal/inguest/boot":      "inside the VM: becomes the image's init",
	"internal/inguest/sshd":      "inside the VM: runs what the user asked for",
}

// starters are the imports and calls that start a process.
var (
	starterImports = []string{"os/exec", "golang.org/x/sys/execabs"}
	starterCalls   = map[string][]string{
		"os":                    {"StartProcess"},
		"syscall":               {"Exec", "ForkExec", "StartProcess"},
		"golang.org/x/sys/unix": {"Exec"},
	}
)

var vague = []string{"util", "utils", "common", "helper", "helpers", "misc", "types", "models"}

func TestArchitecture(t *testing.T) {
	const root = "../.."
	seen, documented := map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && file != root && skipped(d.Name()) {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") {
			return err
		}
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, file)
		pkg := path.Dir(filepath.ToSlash(rel))
		test := strings.HasSuffix(file, "_test.go")
		if !test {
			if n := strings.Count(string(src), "\n"); n > maxLines {
				t.Errorf("%s has %d lines, limit %d: split it by what it knows", rel, n, maxLines)
			}
			if !seen[pkg] {
				seen[pkg] = true
				if _, ok := may[pkg]; !ok {
					t.Errorf("package %s is not in the table: say what it may import", pkg)
				}
				if slices.Contains(vague, path.Base(pkg)) {
					t.Errorf("package %s: the name says nothing", pkg)
				}
			}
			documented[pkg] = documented[pkg] || f.Doc != nil
		}
		if !test { // tests may import and start what they need
			checkImports(t, rel, pkg, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range seen {
		if !documented[pkg] {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
	for pkg := range may {
		if !seen[pkg] {
			t.Errorf("the table names %s, which no longer exists", pkg)
		}
	}
	for pkg := range mayStart {
		if !seen[pkg] {
			t.Errorf("mayStart names %s, which no longer exists", pkg)
		}
	}
}

// skipped are directories that hold no source of ours: git's, Go's own
// unpacked into .tools, what was built.
func skipped(dir string) bool {
	return strings.HasPrefix(dir, ".") || dir == "bin" || dir == "runtime" || dir == "testdata"
}

func checkImports(t *testing.T, rel, pkg string, f *ast.File) {
	calls := map[string][]string{} // local name -> calls that start a process
	for _, im := range f.Imports {
		p, _ := strconv.Unquote(im.Path.Value)
		if slices.Contains(starterImports, p) && mayStart[pkg] == "" {
			t.Errorf("%s imports %s: go through internal/host", rel, p)
		}
		if c, ok := starterCalls[p]; ok && mayStart[pkg] == "" {
			name := path.Base(p)
			if im.Name != nil {
				name = im.Name.Name
			}
			calls[name] = c
		}
		if p != module && !strings.HasPrefix(p, module+"/") {
			continue
		}
		to := strings.TrimPrefix(strings.TrimPrefix(p, module), "/")
		if to == "" {
			to = "."
		}
		if may[pkg] != "*" && !slices.Contains(strings.Fields(may[pkg]), to) {
			t.Errorf("%s imports %s: %s may not know it", rel, p, pkg)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(calls[x.Name], sel.Sel.Name) {
				t.Errorf("%s calls %s.%s: go through internal/host", rel, x.Name, sel.Sel.Name)
			}
		}
		return true
	})
}
