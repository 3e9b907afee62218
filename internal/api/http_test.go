package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
)

func decode(body string, v any) error {
	return api.Decode(httptest.NewRequest("POST", "/v1/vm.create", strings.NewReader(body)), v)
}

func TestDecode(t *testing.T) {
	for body, want := range map[string]api.CreateRequest{
		``:               {},
		` {} `:           {},
		`{"cpus":0}`:     {CPUs: api.Some(0)}, // there, and for the daemon to refuse
		`{"cpus":-1}`:    {CPUs: api.Some(-1)},
		`{"name":""}`:    {Name: api.Some("")},
		"{\"cpus\":2}\n": {CPUs: api.Some(2)},
		`{"name":"a","memory_bytes":1073741824,"no_start":true}`: {Name: api.Some("a"), Memory: api.Some[int64](1 << 30), NoStart: true},
	} {
		var got api.CreateRequest
		if err := decode(body, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for body, names := range map[string]string{
		`{"cpus":null}`:                        `"cpus": null`,
		`{"memory_bytes":null}`:                `"memory_bytes": null`,
		`{"name":null}`:                        `"name": null`,
		`{"cpus":"two"}`:                       `"cpus": string`,
		`{"cpus":1.5}`:                         `"cpus": number 1.5`,
		`{"cpus":1e400}`:                       `"cpus"`,
		`{"memory_bytes":9223372036854775808}`: `"memory_bytes": number 9223372036854775808`,
		`{"name":5}`:                           `"name": number`,
		`{"cpus":[1]}`:                         `"cpus": array`,
		`{"no_start":"yes"}`:                   `"no_start": string`,
		`{"cpu":2}`:                            `unknown field "cpu"`,
		`{"cpus":2}{}`:                         `after`,
		`{"cpus":2} x`:                         `after`,
		`null`:                                 `object`,
		`[]`:                                   `object`,
		`"text"`:                               `object`,
		`{`:                                    `short`,
		`{"cpus":}`:                            `byte 9`,
		`{"name":"` + strings.Repeat("a", api.MaxBody) + `"}`: `larger`,
	} {
		var got api.CreateRequest
		err := decode(body, &got)
		if banger.CodeOf(err) != banger.Invalid || !strings.Contains(err.Error(), names) {
			t.Errorf("%.60s: %v", body, err)
		}
		if err != nil && strings.Contains(err.Error(), "json") {
			t.Errorf("%.60s: not a user's words: %v", body, err)
		}
	}
}

// FuzzDecode: what is taken is no more than what it says, and says it again.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{``, `{}`, `null`, `{"cpus":0}`, `{"cpus":null}`, `{"cpus":1e9}`, `{"name":"a","cpus":2,"memory_bytes":-1}`, `{"cpus":2}{}`, `{"x":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got api.CreateRequest
		if err := decode(string(body), &got); err != nil {
			if banger.CodeOf(err) != banger.Invalid {
				t.Fatalf("refused as %v", banger.CodeOf(err))
			}
			return
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var again api.CreateRequest
		if err := decode(string(b), &again); err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%s became %s: %v", body, b, err)
		}
	})
}

func TestErrorsCrossTheSocket(t *testing.T) {
	cause := errors.New("no space left")
	for _, tc := range []struct {
		err    error
		status int
		want   banger.Error
	}{
		{banger.Errorf(banger.NotFound, "no VM %q", "a").WithRemedy("banger ps"), 404, banger.Error{Code: banger.NotFound, Message: `no VM "a"`, Remedy: "banger ps"}},
		{fmt.Errorf("create: %w", banger.Errorf(banger.HostUnready, "disk: %w", cause).WithLog("/l")), 503,
			banger.Error{Code: banger.HostUnready, Message: "create: disk: no space left", Log: "/l"}},
		{banger.Errorf(banger.Invalid, "x"), 400, banger.Error{Code: banger.Invalid, Message: "x"}},
		{banger.Errorf(banger.Busy, "x"), 409, banger.Error{Code: banger.Busy, Message: "x"}},
		{banger.Errorf(banger.NeedsRoot, "x"), 403, banger.Error{Code: banger.NeedsRoot, Message: "x"}},
		{banger.Errorf(banger.TimedOut, "x"), 504, banger.Error{Code: banger.TimedOut, Message: "x"}},
		{banger.Errorf(banger.Lost, "x"), 502, banger.Error{Code: banger.Lost, Message: "x"}},
		{cause, 500, banger.Error{Code: banger.Internal, Message: "no space left"}},
	} {
		w := httptest.NewRecorder()
		api.WriteError(w, tc.err)
		if w.Code != tc.status {
			t.Errorf("%v: status %d", tc.err, w.Code)
		}
		var got *banger.Error
		if !errors.As(api.ReadError(w.Result()), &got) || *got != tc.want {
			t.Errorf("%v came back as %+v", tc.err, got)
		}
	}
}

func TestAnswersOfSomethingElse(t *testing.T) {
	for _, body := range []string{"", "null", "{}", "<html>not found</html>", `{"error":null}`} {
		w := httptest.NewRecorder()
		w.WriteHeader(http.StatusNotFound)
		w.WriteString(body)
		if err := api.ReadError(w.Result()); banger.CodeOf(err) != banger.Internal {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestWriteJSONOfNoJSON(t *testing.T) {
	w := httptest.NewRecorder()
	api.WriteJSON(w, func() {})
	if w.Code != http.StatusInternalServerError || banger.CodeOf(api.ReadError(w.Result())) != banger.Internal {
		t.Errorf("status %d", w.Code)
	}
}
