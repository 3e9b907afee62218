// Package version says which build of banger this is: client and daemon
// compare their builds to know whether they belong together.
package version

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
)

// Release is the version that users speak of.
const Release = "0.1.0-dev"

// build is set by the linker (-ldflags "-X banger/internal/version.build=…").
// Who builds a changed tree sets it to something that changes with the tree, or
// a daemon of the last build passes for one of this build.
var build string

// Build names the sources that this program was built from: what the linker was
// told, else the revision that the go command stamped, with "-dirty" when files
// had been changed. Programs built together have the same one. Without either
// it is a hash of the running executable, which no other program shares.
var Build = sync.OnceValue(func() string {
	if build != "" {
		return build
	}
	info, _ := debug.ReadBuildInfo()
	if b := stamped(info); b != "" {
		return b
	}
	return hashed("/proc/self/exe")
})

// Info is what `banger version` prints.
type Info struct {
	Version  string `json:"version"`
	Build    string `json:"build"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Version describes this program.
func Version() Info {
	return Info{
		Version:  Release,
		Build:    Build(),
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

func (i Info) String() string {
	return fmt.Sprintf("banger %s (build %s, %s, %s)", i.Version, i.Build, i.Go, i.Platform)
}

// stamped reads the revision out of info; "" if there is none, as in a test or
// a build from an unpacked archive.
func stamped(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	var rev, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if rev == "" {
		return ""
	}
	return rev + dirty
}

func hashed(exe string) string {
	f, err := os.Open(exe)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "unknown"
	}
	return "exe-" + hex.EncodeToString(h.Sum(nil)[:6])
}
