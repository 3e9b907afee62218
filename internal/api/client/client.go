// Package client is a typed client of bangerd's API over its unix socket: one
// method per operation. What the daemon says is wrong comes back as the
// *banger.Error that it sent. It starts nothing and finds no socket by itself.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/api"
)

// ErrNoDaemon is in the tree of an error when nothing listens on the socket:
// it is missing, or left behind by a daemon that ended. Nothing was asked of
// any daemon then.
var ErrNoDaemon = errors.New("bangerd is not running")

// A Client speaks to the daemon on one socket. It keeps no connection, so it
// needs no end; any number of goroutines may use it.
type Client struct {
	socket string
	http   http.Client
}

// New returns a client of the daemon that listens on the unix socket at path.
func New(path string) *Client {
	c := &Client{socket: path}
	// A connection per request costs microseconds here, and none that is kept
	// can be found dead by a request that must not be sent twice.
	c.http.Transport = &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}
	return c
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOTDIR):
		err = fmt.Errorf("%w: %w", ErrNoDaemon, err)
		return nil, (&banger.Error{Code: banger.HostUnready, Message: err.Error(), Err: err}).WithRemedy("banger daemon start")
	case errors.Is(err, fs.ErrPermission):
		return nil, banger.Errorf(banger.HostUnready, "connect to bangerd: %w", err).
			WithRemedy("be the user whose daemon it is: ls -l %s", c.socket)
	}
	return nil, banger.Errorf(banger.HostUnready, "connect to bangerd: %w", err)
}

// base is never resolved: every connection goes to the socket.
const base = "http://bangerd"

func (c *Client) newRequest(ctx context.Context, op string, body any) (*http.Request, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", op, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+api.Prefix+op, bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("make request %s: %w", op, err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r, nil
}

// send returns an answer that is 200, whose body the caller closes.
func (c *Client) send(r *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, lost(r.Context(), err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, api.ReadError(resp)
	}
	return resp, nil
}

// call asks for op and decodes its answer.
func call[T any](ctx context.Context, c *Client, op string, req any) (T, error) {
	var v T
	r, err := c.newRequest(ctx, op, req)
	if err != nil {
		return v, err
	}
	resp, err := c.send(r)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return v, lost(ctx, err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, banger.Errorf(banger.Internal, "decode answer of %s: %w", op, err)
	}
	return v, nil
}

// lost says in a user's words that a connection to the daemon broke, except
// where the caller ended it or the daemon was not there to begin with.
func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var e *banger.Error
	if errors.As(err, &e) { // without net/http's words around it
		return e
	}
	if u := (*url.Error)(nil); errors.As(err, &u) { // a URL that nobody asked for
		err = u.Err
	}
	return banger.Errorf(banger.Lost, "connection to bangerd lost: %w", err).WithRemedy("banger daemon logs")
}
