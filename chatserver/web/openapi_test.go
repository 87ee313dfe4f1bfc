package web

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/account"
)

func TestEveryRouteIsInTheDocumentAndNothingElse(t *testing.T) {
	t.Parallel()
	var document struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(openAPI(), &document); err != nil {
		t.Fatal(err)
	}
	var documented []string
	for path, calls := range document.Paths {
		for method := range calls {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	routed := (&Server{Config: Config{Accounts: account.New(account.Config{})}}).routes().patterns
	routed = slices.DeleteFunc(routed, func(pattern string) bool {
		return slices.Contains([]string{"GET /ws", "GET /{$}", "/"}, pattern) // no calls: WebSockets, people, nobody
	})
	slices.Sort(documented)
	slices.Sort(routed)
	if !slices.Equal(documented, routed) {
		t.Errorf("the document has\n%s\nand the server\n%s", strings.Join(documented, "\n"), strings.Join(routed, "\n"))
	}
}
