package vmcmd_test

import (
	"net/netip"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
)

func TestSetPublish(t *testing.T) {
	for args, want := range map[string]string{
		"--publish 8080:80": `{"vm":"web","publish":[{"host":"127.0.0.1:8080","guest":80,"protocol":"tcp"}]}`,
		"--publish none":    `{"vm":"web","publish":[]}`,
		"--isolated":        `{"vm":"web","isolated":true}`,
		"--isolated=false":  `{"vm":"web","isolated":false}`,
	} {
		s := newSession(t, map[string]any{api.VMSet: banger.VM{Spec: banger.Spec{Name: "web"}}})
		if err := s.run(t.Context(), append([]string{"vm", "set", "web"}, strings.Fields(args)...)...); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		if got := s.requests(); got != api.VMSet+" "+want {
			t.Errorf("%s: sent\n%s, want\n%s", args, got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	vm := banger.VM{State: banger.StateRunning, Ready: true, Spec: banger.Spec{Name: "web", Publish: []banger.Publish{
		{Host: netip.MustParseAddrPort("127.0.0.1:8080"), Guest: 80, Proto: banger.TCP},
		{Host: netip.MustParseAddrPort("0.0.0.0:5353"), Guest: 53, Proto: banger.UDP},
	}}}
	stopped := vm
	stopped.State = banger.StateStopped
	lost := vm
	lost.Problem = &banger.Problem{Message: "its network is gone"}
	for _, c := range []struct {
		vm   banger.VM
		args string
		want string
	}{
		{vm, "", "HOST            GUEST  PROTOCOL  OPEN\n127.0.0.1:8080  80     tcp       yes\n0.0.0.0:5353    53     udp       yes\n"},
		{stopped, "", "HOST            GUEST  PROTOCOL  OPEN\n127.0.0.1:8080  80     tcp       no\n0.0.0.0:5353    53     udp       no\n"},
		{lost, "", "HOST            GUEST  PROTOCOL  OPEN\n127.0.0.1:8080  80     tcp       no\n0.0.0.0:5353    53     udp       no\n"},
		{banger.VM{}, "-o json", "[]\n"},
		{vm, "-o json", `[
  {
    "host": "127.0.0.1:8080",
    "guest": 80,
    "protocol": "tcp"
  },
  {
    "host": "0.0.0.0:5353",
    "guest": 53,
    "protocol": "udp"
  }
]
`},
	} {
		s := newSession(t, map[string]any{api.VMShow: c.vm})
		if err := s.run(t.Context(), append([]string{"vm", "ports", "web"}, strings.Fields(c.args)...)...); err != nil {
			t.Fatal(err)
		}
		if got := s.out.String(); got != c.want {
			t.Errorf("vm ports %s:\n%s\nwant\n%s", c.args, got, c.want)
		}
	}
	s := newSession(t, map[string]any{api.VMShow: vm})
	s.io.Quiet = true
	if err := s.run(t.Context(), "vm", "ports", "web"); err != nil || s.out.String() != "127.0.0.1:8080:80\n0.0.0.0:5353:53/udp\n" {
		t.Errorf("quiet: %q, %v", s.out, err)
	}
}
