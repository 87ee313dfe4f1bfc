//go:build linux

package cluster

import (
	"bytes"
	"embed"
	"fmt"
	"path"
	"text/template"
)

//go:embed files manifests
var embedded embed.FS

// render fills in one of the files under files/.
func render(name string, data any) ([]byte, error) { return renderPath(path.Join("files", name), data) }

func renderPath(path string, data any) ([]byte, error) {
	t, err := template.New("").Option("missingkey=error").ParseFS(embedded, path)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.ExecuteTemplate(&out, t.Templates()[0].Name(), data); err != nil {
		return nil, fmt.Errorf("fill in %s: %w", path, err)
	}
	return out.Bytes(), nil
}
