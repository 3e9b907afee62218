package bundle

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"banger/internal/host"
)

// suites are what the image is made from, and updated from later.
var suites = []string{suite, suite + "-updates", suite + "-security"}

var webAddress = regexp.MustCompile(`^https?://[!-~]+$`)

// sources returns the host's own sources.list(5) lines for the suites: its
// mirror is the one that works here. Where the host has not all of them, being
// another release or no Debian, it returns none, and mmdebstrap takes Debian's
// default mirror.
func (b *Builder) sources(ctx context.Context) []string {
	out, err := b.Runner.Run(ctx, host.Cmd{Tool: "apt-get", Args: []string{
		"indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)", "Created-By: Packages",
	}})
	if err != nil {
		return nil
	}
	return parseSources(string(out))
}

// parseSources reads lines of address, suite, component and origin. The origin
// is empty until the host has fetched the suite's index.
func parseSources(text string) []string {
	lines, found := []string{}, map[string]bool{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 3 {
			f = append(f, "Debian")
		}
		if len(f) != 4 || !slices.Contains(suites, f[1]) || f[2] != "main" || f[3] != "Debian" || !webAddress.MatchString(f[0]) {
			continue
		}
		found[f[1]] = true
		if source := "deb " + f[0] + " " + f[1] + " main"; !slices.Contains(lines, source) {
			lines = append(lines, source)
		}
	}
	if len(found) != len(suites) {
		return nil
	}
	return lines
}

// proxies returns apt's settings on this host for reaching the mirror.
func (b *Builder) proxies(ctx context.Context) []string {
	out, err := b.Runner.Run(ctx, host.Cmd{Tool: "apt-config", Args: []string{"dump", "Acquire::http::Proxy", "Acquire::https::Proxy"}})
	if err != nil {
		return nil
	}
	var options []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "Acquire::http") && !strings.HasSuffix(line, ` "";`) {
			options = append(options, line)
		}
	}
	return options
}
