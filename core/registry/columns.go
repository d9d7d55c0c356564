package registry

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Values that tables show in place of nothing.
const (
	none    = "<none>"
	unknown = "<unknown>"
)

// Verbs of the kinds that cannot be deleted as a collection.
var singleVerbs = []string{"create", "delete", "get", "list", "patch", "update", "watch"}

// nameColumn is the first column of nearly every table.
func nameColumn() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{
		Name: "Name", Type: "string", Format: "name",
		Description: "The object's name, unique in its namespace for its kind.",
	}
}

// ageColumn tells how long an object has existed.
func ageColumn() metav1.TableColumnDefinition {
	return column("Age", "string", "The time since the object was created.")
}

// column is one that is always shown.
func column(name, kind, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: kind, Description: description}
}

// wide is a column shown with -o wide.
func wide(name, kind, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: kind, Description: description, Priority: 1}
}

// age is the time from then to now as kubectl prints it: 5s, 3m, 2d4h.
func age(then metav1.Time, now time.Time) string {
	if then.IsZero() {
		return unknown
	}
	return duration.HumanDuration(now.Sub(then.Time))
}

// orNone returns s, or <none> in place of an empty one.
func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// containerCells are the names and the images of containers.
func containerCells(containers []corev1.Container) (names, images string) {
	n, i := make([]string, 0, len(containers)), make([]string, 0, len(containers))
	for _, c := range containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// containerColumns are the wide columns that containerCells fills.
func containerColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		wide("Containers", "string", "The names of the template's containers."),
		wide("Images", "string", "The images of the template's containers."),
	}
}
