package launch

import (
	"path/filepath"
	"strings"

	"banger/internal/api"
)

// tellIgnored says which variables of ours mean nothing to the daemon that runs:
// it has read its own when it started. The others go along with each request.
func (l *Launcher) tellIgnored(lock api.LockFile) {
	for _, v := range []struct {
		name, used string
		same       func(ours, used string) bool
	}{
		{"BANGER_CONFIG", lock.Config, func(ours, used string) bool { return filepath.Clean(ours) == used }},
		{"BANGER_LOG_LEVEL", lock.LogLevel, strings.EqualFold},
	} {
		// A daemon of an older build does not say what it uses.
		if ours := l.IO.Getenv(v.name); ours != "" && v.used != "" && !v.same(ours, v.used) {
			l.IO.Note("the bangerd that runs does not use %s=%s but %s: banger daemon restart", v.name, ours, v.used)
		}
	}
}
