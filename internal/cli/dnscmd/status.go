package dnscmd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"
	"banger/internal/resolver"

	"github.com/spf13/cobra"
)

// A Status is what banger dns status prints.
type Status struct {
	Server   api.DNSInfo      `json:"server"`
	Resolves bool             `json:"resolves"`         // the host asks this daemon for names of VMs, and is answered
	Answer   string           `json:"answer,omitempty"` // what it said instead
	Resolver string           `json:"resolver"`         // resolved, networkmanager, dnsmasq; "": none that could be told
	SetUp    []resolver.Setup `json:"set_up"`           // banger's files that resolvers of the host have
	Advice   string           `json:"advice,omitempty"`
}

func newStatus(e Env) *cobra.Command {
	format := streams.Table
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show where names are served, and whether this host asks there",
		Long: `Show where the daemon answers for names of VMs, and whether this host asks there:
a name that the daemon alone knows is looked up as any program would do it.`,
		Example: "  banger dns status\n  banger dns status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.Find(cmd.Context())
			if err != nil {
				return err
			}
			return runStatus(cmd.Context(), e, format, c)
		},
	}
	addFormat(cmd, &format)
	return cmd
}

func runStatus(ctx context.Context, e Env, f streams.Format, c Client) error {
	info, tag, err := served(ctx, c)
	if err != nil {
		return err
	}
	if e.IO.Quiet {
		return e.IO.Println(info.Listen)
	}
	s := Status{Server: info, SetUp: append([]resolver.Setup{}, e.Host.Setups()...)}
	kind, detectErr := e.Host.Detect()
	s.Resolver = string(kind)
	s.Resolves, s.Answer = e.asks(ctx, info)
	if detectErr == nil { // or what there is would not help
		t := resolver.Target{Tag: tag}
		detectErr = e.Host.Check(kind, e.Host.FileOf(kind, t), t)
	}
	s.Advice = advice(s, tag, detectErr)
	return e.IO.Print(f, s, func(r *streams.Rows) { describe(r, s) })
}

// asks looks a name up that is there in any case; not where the host's programs
// ask servers elsewhere, which cannot know it and are not to hear of it.
func (e Env) asks(ctx context.Context, i api.DNSInfo) (yes bool, instead string) {
	if !e.Host.AsksItself() {
		return false, "it asks servers elsewhere"
	}
	addrs, err := e.Host.Ask(ctx, i.Probe)
	switch {
	case err != nil:
		return false, fmt.Sprintf("%s: %v", i.Probe, err)
	case !slices.Contains(addrs, netip.AddrFrom4([4]byte{127, 0, 0, 1})):
		return false, fmt.Sprintf("%s is %v, by somebody else's word", i.Probe, addrs)
	}
	return true, ""
}

// advice is what the user can do about what is not as it should be.
func advice(s Status, tag string, detect error) string {
	stale := slices.ContainsFunc(s.SetUp, func(u resolver.Setup) bool { return u.Tag == tag && u.Listen != s.Server.Listen })
	other := slices.ContainsFunc(s.SetUp, func(u resolver.Setup) bool { return u.Tag != tag })
	switch {
	case s.Server.Listen == "" && s.Server.Wanted == "":
		return "names are switched off: listen under [dns] in the configuration"
	case s.Server.Listen == "":
		return "banger doctor"
	case s.Resolves:
		return ""
	case stale:
		return "the host asks where the daemon was before: banger dns install"
	case other:
		return "the host asks another installation of banger: banger dns uninstall, then banger dns install"
	case len(s.SetUp) > 0 && detect == nil:
		return "the resolver has not read its file, or programs do not ask it: " + s.SetUp[0].File
	case detect != nil:
		e := banger.AsError(detect)
		return e.Message + ": " + e.Remedy
	}
	return "banger dns install"
}

func describe(r *streams.Rows, s Status) {
	listens := s.Server.Listen
	if s.Server.Problem != "" {
		listens += " (" + s.Server.Problem + ")"
	}
	r.Add("Listens", listens)
	if s.Resolves {
		r.Add("Host resolves ."+s.Server.Zone, "yes")
	} else {
		r.Add("Host resolves ."+s.Server.Zone, "no ("+s.Answer+")")
	}
	r.Add("Resolver", s.Resolver)
	for _, u := range s.SetUp {
		r.Add("Set up", fmt.Sprintf("%s: installation %s at %s", u.File, u.Tag, u.Listen))
	}
	if len(s.SetUp) == 0 {
		r.Add("Set up", "no")
	}
	if s.Advice != "" {
		r.Add("To do", s.Advice)
	}
}
