package firecracker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	sdk "github.com/firecracker-microvm/firecracker-go-sdk"
	"github.com/firecracker-microvm/firecracker-go-sdk/client"
	"github.com/firecracker-microvm/firecracker-go-sdk/client/models"
	"github.com/firecracker-microvm/firecracker-go-sdk/client/operations"
	"github.com/go-openapi/runtime"
	httptransport "github.com/go-openapi/runtime/client"
	"github.com/go-openapi/strfmt"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
)

const (
	maxAnswer  = 64 << 10             // bytes of an answer: the VMM may be a guest's by then
	dialEvery  = 5 * time.Millisecond // at first; then ever more seldom
	dialSeldom = time.Second
	maxRefused = 8 // connections between bind and listen
)

// A fault is a request that Firecracker has refused.
type fault struct {
	request, message string
}

func (f *fault) Error() string { return fmt.Sprintf("%s: %s", f.request, f.message) }

// startGuest configures h's VMM and starts its guest, by the SDK's handlers but
// those that launch a process, rewrite the kernel's arguments (through a map)
// or make files.
func startGuest(ctx context.Context, h banger.Handle, cfg sdkConfig, log *slog.Logger) error {
	c := operationsOf(ctx, h)
	m, err := sdk.NewMachine(ctx, cfg, sdk.WithClient(clientOf(h, c)), sdk.WithLogger(bridge(log, h.Launch)))
	if err != nil {
		return err
	}
	// A list of our own: to append to the SDK's changes that of other machines.
	m.Handlers.FcInit = sdk.HandlerList{}.Append(
		sdk.CreateMachineHandler, sdk.CreateBootSourceHandler, sdk.AttachDrivesHandler,
		sdk.CreateNetworkInterfacesHandler, sdk.AddVsocksHandler, entropy(c),
	)
	err = m.Start(ctx)
	var f *fault
	if errors.As(err, &f) {
		return banger.Errorf(banger.HostUnready, "Firecracker refused %w", f)
	}
	return err
}

// entropy gives the guest a random number generator.
func entropy(c operations.ClientIface) sdk.Handler {
	return sdk.Handler{Name: "banger.Entropy", Fn: func(ctx context.Context, _ *sdk.Machine) error {
		_, err := c.PutEntropyDevice(operations.NewPutEntropyDeviceParamsWithContext(ctx).WithBody(&models.EntropyDevice{}))
		return err
	}}
}

// clientOf is an SDK client over c. It gets no logger: one would be set for all
// of the process.
func clientOf(h banger.Handle, c operations.ClientIface) *sdk.Client {
	return sdk.NewClient(h.Socket, nil, false, sdk.WithOpsClient(c))
}

// operationsOf are the API's operations, each of which ends with ctx, whatever
// the SDK has in mind: it gives some half a second, which a loaded host exceeds,
// and others for ever.
func operationsOf(ctx context.Context, h banger.Handle) operations.ClientIface {
	rt := httptransport.New(client.DefaultHost, client.DefaultBasePath, client.DefaultSchemes)
	rt.Transport = &caller{&http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, h) },
		DisableKeepAlives: true, // each call's connection ends with it
	}}
	return operations.New(within{rt, ctx}, strfmt.Default)
}

type within struct {
	runtime.ClientTransport
	ctx context.Context
}

func (w within) Submit(op *runtime.ClientOperation) (any, error) {
	op.Context = w.ctx
	return w.ClientTransport.Submit(op)
}

// A caller bounds answers, and makes a fault of one that refuses.
type caller struct{ next http.RoundTripper }

func (c *caller) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxAnswer), res.Body}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	var said struct {
		Message string `json:"fault_message"`
	}
	b, err := io.ReadAll(res.Body)
	if err != nil || json.Unmarshal(b, &said) != nil || said.Message == "" {
		said.Message = fmt.Sprintf("status %d", res.StatusCode)
	}
	return nil, &fault{request: r.Method + " " + r.URL.Path, message: host.Escape(said.Message)}
}

// dial connects to the API of h's VMM.
func dial(ctx context.Context, h banger.Handle) (net.Conn, error) {
	return dialPeer(ctx, h.Socket, h.PID)
}

// dialPeer connects to a socket of the process pid's, and to nobody else: where the
// daemon is root the directory is the VM's own user's, and a path in it could lead
// anywhere.
func dialPeer(ctx context.Context, socket string, pid int) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if err := host.IsPeer(conn, pid); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// reach returns as soon as the socket of h's VMM takes a connection. A socket
// that is not there yet is waited for; one that is there and refuses us is an
// error at once, but for the moment between its making and its use.
func reach(ctx context.Context, h banger.Handle) error {
	refused := 0
	for wait := dialEvery; ; wait = min(wait*5/4, dialSeldom) {
		conn, err := dial(ctx, h)
		if err == nil {
			return conn.Close()
		}
		if errors.Is(err, unix.ECONNREFUSED) {
			refused++
		}
		if !errors.Is(err, fs.ErrNotExist) && (refused == 0 || refused > maxRefused) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// stateOf asks a VMM for its InstanceInfo's state.
func stateOf(ctx context.Context, h banger.Handle) (string, error) {
	got, err := clientOf(h, operationsOf(ctx, h)).GetInstanceInfo(ctx)
	if err != nil {
		return "", err
	}
	return sdk.StringValue(got.Payload.State), nil
}

// pressButton asks the guest to end by Ctrl-Alt-Del on a keyboard that it may
// not have: Firecracker says yes to that, too.
func pressButton(ctx context.Context, h banger.Handle) error {
	_, err := clientOf(h, operationsOf(ctx, h)).CreateSyncAction(ctx, &models.InstanceActionInfo{
		ActionType: sdk.String(models.InstanceActionInfoActionTypeSendCtrlAltDel),
	})
	return err
}
