package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"banger"
	"banger/internal/api"
)

// Events gives what happened to VMs to on, from number from on (0: all that
// the daemon remembers), and returns; with follow it goes on with what happens
// until ctx ends or on fails. A connection that breaks, as when the daemon
// ends, is a Lost error then: come back with the number after the last one.
func (c *Client) Events(ctx context.Context, from int64, follow bool, on func(banger.VMEvent) error) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+api.EventsPath(from, follow), nil)
	if err != nil {
		return err
	}
	resp, err := c.send(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var e banger.VMEvent
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF) && !follow:
			return nil
		case err != nil:
			return lost(ctx, err)
		}
		if err := on(e); err != nil {
			return err
		}
	}
}
