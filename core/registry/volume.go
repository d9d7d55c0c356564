package registry

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateVolumes(volumes []corev1.Volume, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range volumes {
		v := &volumes[i]
		at := path.Child("volumes").Index(i)
		errs = append(errs, validateVolumeSource(&v.VolumeSource, at)...)
		if v.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		errs = append(errs, dnsLabel(v.Name, at.Child("name"))...)
		if names[v.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		}
		names[v.Name] = true
	}
	return errs
}

// volumeSources names the sources that are set, as their fields are called.
//

func volumeSources(s *corev1.VolumeSource) []string {
	var set []string
	for _, k := range [...]struct {
		name string
		set  bool
	}{
		{"emptyDir", s.EmptyDir != nil}, {"hostPath", s.HostPath != nil}, {"gitRepo", s.GitRepo != nil},
		{"gcePersistentDisk", s.GCEPersistentDisk != nil}, {"awsElasticBlockStore", s.AWSElasticBlockStore != nil},
		{"secret", s.Secret != nil}, {"nfs", s.NFS != nil}, {"iscsi", s.ISCSI != nil}, {"glusterfs", s.Glusterfs != nil},
		{"flocker", s.Flocker != nil}, {"persistentVolumeClaim", s.PersistentVolumeClaim != nil}, {"rbd", s.RBD != nil},
		{"cinder", s.Cinder != nil}, {"cephfs", s.CephFS != nil}, {"quobyte", s.Quobyte != nil},
		{"downwardAPI", s.DownwardAPI != nil}, {"fc", s.FC != nil}, {"flexVolume", s.FlexVolume != nil},
		{"configMap", s.ConfigMap != nil}, {"azureFile", s.AzureFile != nil}, {"vsphereVolume", s.VsphereVolume != nil},
		{"photonPersistentDisk", s.PhotonPersistentDisk != nil}, {"portworxVolume", s.PortworxVolume != nil},
		{"azureDisk", s.AzureDisk != nil}, {"storageos", s.StorageOS != nil}, {"projected", s.Projected != nil},
		{"scaleIO", s.ScaleIO != nil}, {"csi", s.CSI != nil}, {"ephemeral", s.Ephemeral != nil}, {"image", s.Image != nil},
	} {
		if k.set {
			set = append(set, k.name)
		}
	}
	return set
}

func validateVolumeSource(s *corev1.VolumeSource, path *field.Path) field.ErrorList {
	set := volumeSources(s)
	if len(set) == 0 {
		return field.ErrorList{field.Required(path, "must specify a volume type")}
	}
	var errs field.ErrorList
	for _, name := range set[1:] {
		errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 volume type"))
	}
	at := path.Child(set[0])
	switch {
	case s.EmptyDir != nil:
		if l := s.EmptyDir.SizeLimit; l != nil && l.Sign() < 0 {
			errs = append(errs, field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity"))
		}
	case s.HostPath != nil:
		errs = append(errs, validateHostPath(s.HostPath, at)...)
	case s.Secret != nil:
		errs = append(errs, requiredString(s.Secret.SecretName, at.Child("secretName"))...)
		errs = append(errs, fileMode(s.Secret.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateKeyPaths(s.Secret.Items, at)...)
	case s.ConfigMap != nil:
		errs = append(errs, requiredString(s.ConfigMap.Name, at.Child("name"))...)
		errs = append(errs, fileMode(s.ConfigMap.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateKeyPaths(s.ConfigMap.Items, at)...)
	case s.DownwardAPI != nil:
		errs = append(errs, fileMode(s.DownwardAPI.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateDownwardFiles(s.DownwardAPI.Items, at)...)
	case s.PersistentVolumeClaim != nil:
		errs = append(errs, requiredString(s.PersistentVolumeClaim.ClaimName, at.Child("claimName"))...)
	case s.Projected != nil:
		errs = append(errs, validateProjected(s.Projected, at)...)
	}
	return errs
}

func requiredString(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}

func validateHostPath(h *corev1.HostPathVolumeSource, path *field.Path) field.ErrorList {
	if h.Path == "" {
		return field.ErrorList{field.Required(path.Child("path"), "")}
	}
	var errs field.ErrorList
	if slices.Contains(strings.Split(h.Path, "/"), "..") {
		errs = append(errs, field.Invalid(path.Child("path"), h.Path, "must not contain '..'"))
	}
	if h.Type == nil {
		return errs
	}
	kinds := []corev1.HostPathType{
		corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
		corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket,
	}
	if !slices.Contains(kinds, *h.Type) {
		errs = append(errs, field.NotSupported(path.Child("type"), *h.Type, kinds))
	}
	return errs
}

func fileMode(mode *int32, path *field.Path) field.ErrorList {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		return field.ErrorList{field.Invalid(path, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
	}
	return nil
}

func validateKeyPaths(items []corev1.KeyToPath, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range items {
		at := path.Child("items").Index(i)
		errs = append(errs, requiredString(items[i].Key, at.Child("key"))...)
		errs = append(errs, requiredPath(items[i].Path, at.Child("path"))...)
		errs = append(errs, fileMode(items[i].Mode, at.Child("mode"))...)
	}
	return errs
}

// requiredPath requires a path of a file below a volume.
func requiredPath(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := relativePath(value, path)
	// No element may begin so: the name is kept for the volume's own links.
	if strings.HasPrefix(value, "..") && !strings.HasPrefix(value, "../") {
		errs = append(errs, field.Invalid(path, value, "must not start with '..'"))
	}
	return errs
}

// relativePath refuses a path that leaves where it begins.
func relativePath(value string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(value, "/") {
		errs = append(errs, field.Invalid(path, value, "must be a relative path"))
	}
	if slices.Contains(strings.Split(value, "/"), "..") {
		errs = append(errs, field.Invalid(path, value, "must not contain '..'"))
	}
	return errs
}

func validateDownwardFiles(items []corev1.DownwardAPIVolumeFile, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range items {
		f := &items[i]
		at := path.Child("items").Index(i)
		errs = append(errs, requiredPath(f.Path, at.Child("path"))...)
		switch {
		case f.FieldRef != nil:
			errs = append(errs, validateFieldRef(f.FieldRef, volumeFieldPaths(), at.Child("fieldRef"))...)
			if f.ResourceFieldRef != nil {
				errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
			}
		case f.ResourceFieldRef != nil:
			errs = append(errs, validateResourceFieldRef(f.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
		default:
			errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
		}
		errs = append(errs, fileMode(f.Mode, at.Child("mode"))...)
	}
	return errs
}

func validateProjected(p *corev1.ProjectedVolumeSource, path *field.Path) field.ErrorList {
	errs := fileMode(p.DefaultMode, path.Child("defaultMode"))
	for i := range p.Sources {
		s := &p.Sources[i]
		at := path.Child("sources").Index(i)
		set := 0
		if s.Secret != nil {
			set++
			errs = append(errs, requiredString(s.Secret.Name, at.Child("secret", "name"))...)
			errs = append(errs, validateKeyPaths(s.Secret.Items, at.Child("secret"))...)
		}
		if s.ConfigMap != nil {
			set++
			errs = append(errs, requiredString(s.ConfigMap.Name, at.Child("configMap", "name"))...)
			errs = append(errs, validateKeyPaths(s.ConfigMap.Items, at.Child("configMap"))...)
		}
		if s.DownwardAPI != nil {
			set++
			errs = append(errs, validateDownwardFiles(s.DownwardAPI.Items, at.Child("downwardAPI"))...)
		}
		if t := s.ServiceAccountToken; t != nil {
			set++
			errs = append(errs, validateTokenSource(t, at.Child("serviceAccountToken"))...)
		}
		if s.ClusterTrustBundle != nil || s.PodCertificate != nil {
			set++
		}
		if set > 1 {
			errs = append(errs, field.Forbidden(at, "may not specify more than 1 volume type per source"))
		}
	}
	return errs
}

func validateTokenSource(t *corev1.ServiceAccountTokenProjection, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if e := t.ExpirationSeconds; e != nil && *e < 600 {
		errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *e, "may not specify a duration less than 10 minutes"))
	} else if e != nil && *e > 1<<32 {
		errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *e, "may not specify a duration larger than 2^32 seconds"))
	}
	return append(errs, requiredPath(t.Path, path.Child("path"))...)
}

func validateMounts(c *corev1.Container, volumes []corev1.Volume, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	taken := map[string]bool{}
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		all := path.Child("volumeMounts")
		at := all.Index(i)
		errs = append(errs, knownVolume(m.Name, volumes, at)...)
		errs = append(errs, requiredString(m.MountPath, at.Child("mountPath"))...)
		if taken[m.MountPath] {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		taken[m.MountPath] = true
		if m.SubPath != "" && m.SubPathExpr != "" {
			errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
		}
		// Kubernetes leaves the index out of these two.
		errs = append(errs, relativePath(m.SubPath, all.Child("subPath"))...)
		errs = append(errs, relativePath(m.SubPathExpr, all.Child("subPathExpr"))...)
	}
	for i := range c.VolumeDevices {
		d := &c.VolumeDevices[i]
		at := path.Child("volumeDevices").Index(i)
		errs = append(errs, knownVolume(d.Name, volumes, at)...)
		errs = append(errs, requiredString(d.DevicePath, at.Child("devicePath"))...)
	}
	return errs
}

// knownVolume requires that a volume is named and there.
func knownVolume(name string, volumes []corev1.Volume, path *field.Path) field.ErrorList {
	errs := requiredString(name, path.Child("name"))
	if !slices.ContainsFunc(volumes, func(v corev1.Volume) bool { return v.Name == name }) {
		errs = append(errs, field.NotFound(path.Child("name"), name))
	}
	return errs
}
