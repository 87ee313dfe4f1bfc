package account

import (
	"net/netip"
	"strings"

	"github.com/chatcluster/chatcluster/chatserver/address"
)

// Origin is where somebody logs in from.
type Origin struct {
	Address netip.Addr // the zero one: not known
	Agent   string     // what the client calls itself
}

// maxAgent is how much of what a client calls itself is kept, in bytes.
const maxAgent = 200

func (o Origin) address() string {
	if !o.Address.IsValid() {
		return ""
	}
	return o.Address.String()
}

func (o Origin) agent() string {
	return strings.ToValidUTF8(o.Agent[:min(len(o.Agent), maxAgent)], "")
}

func (o Origin) network() string {
	if !o.Address.IsValid() {
		return ""
	}
	return address.Network(o.Address)
}

// networkOf is the network of an address as address writes it.
func networkOf(text string) string {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return ""
	}
	return address.Network(addr)
}
