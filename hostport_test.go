package banger_test

import (
	"encoding/json"
	"testing"

	"banger"
)

func TestParseHostPort(t *testing.T) {
	for in, want := range map[string]string{
		"5432": "5432/tcp", "22/tcp": "22/tcp", "53/udp": "53/udp", "65535": "65535/tcp",
		"": "", "0": "", "65536": "", "-1": "", "+1": "", "80/": "", "80/sctp": "", "/udp": "", "80/udp/udp": "", "host:80": "", " 80": "",
	} {
		got, err := banger.ParseHostPort(in)
		if want == "" {
			if e := banger.AsError(err); e == nil || e.Code != banger.Invalid || e.Remedy == "" || got != (banger.HostPort{}) {
				t.Errorf("%q: %v, %v", in, got, err)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%q: %v, %v; want %s", in, got, err, want)
		}
		b, err := json.Marshal([]banger.HostPort{got})
		var again []banger.HostPort
		if err != nil || string(b) != `["`+want+`"]` || json.Unmarshal(b, &again) != nil || again[0] != got {
			t.Errorf("%q as JSON: %s, %v, %v", in, b, again, err)
		}
	}
	var p banger.HostPort
	for _, bad := range []string{`80`, `"80/x"`, `{"port":80}`, `""`} {
		if err := json.Unmarshal([]byte(bad), &p); err == nil {
			t.Errorf("%s is read as %v", bad, p)
		}
	}
}
