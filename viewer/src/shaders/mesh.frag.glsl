// Colours multiply in linear light, as in geodistill/shade/view.py. The light stands still beside
// the viewer: a key light from the upper left, a softer one from the right, and the sky's.
uniform vec4 factor; // linear
uniform sampler2D map;
uniform bool textured;
uniform bool lit;
uniform bool flat_shaded;
uniform vec3 up_in_view;

in vec3 in_view;
in vec3 rest_in_view; // the same before the mesh was deformed, with
in vec3 normal_in_view;
in vec2 texture_at;
in vec4 vertex_color;
in float heat;
in vec4 paint;
out vec4 color;

const vec3 KEY = vec3(-0.43, 0.56, 0.71);
const vec3 FILL = vec3(0.80, 0.05, 0.60);

vec3 light(vec3 normal) {
  float sky = 0.5 + 0.5 * dot(normal, up_in_view);
  float key = max(dot(normal, KEY), 0.0);
  float fill = max(dot(normal, FILL), 0.0);
  return mix(vec3(0.17, 0.165, 0.16), vec3(0.34, 0.35, 0.37), sky)
    + 0.66 * key * vec3(1.0, 0.985, 0.96) + 0.16 * fill * vec3(0.9, 0.95, 1.0);
}

// A weak gloss: it shows the shape of what is black.
float gloss(vec3 normal, vec3 viewer) {
  float key = pow(max(dot(normal, normalize(KEY + viewer)), 0.0), 24.0);
  float edge = pow(1.0 - max(dot(normal, viewer), 0.0), 4.0);
  return 0.05 * key + 0.06 * edge;
}

// From little over yellow to dark red, as geodistill.lift.sheet has it.
vec3 warm(float weight) {
  vec3 low = mix(vec3(0.99, 0.78, 0.35), vec3(0.93, 0.36, 0.16), min(2.0 * weight, 1.0));
  return mix(low, vec3(0.55, 0.0, 0.15), max(2.0 * weight - 1.0, 0.0));
}

// The normal at rest as the facet is carried from its place at rest to where it is: what it has along
// the facet changes like a gradient, and across it the facet is as thick as it is wide.
vec3 carried(vec3 normal, vec3 a, vec3 b, vec3 a_now, vec3 b_now) {
  vec3 before = cross(a, b), across = cross(a_now, b_now);
  float area = length(before), area_now = length(across);
  if (area < 1e-5 * length(a) * length(b) || area_now < 1e-5 * length(a_now) * length(b_now))
    return normal; // seen from the side: the facet says nothing
  vec3 unit = across / area_now;
  vec3 along = dot(normal, a) * cross(b_now, unit) + dot(normal, b) * cross(unit, a_now);
  return along / area_now + dot(normal, before / area) * sqrt(area / area_now) * unit;
}

void main() {
  vec4 albedo = factor * vertex_color;
  if (textured) {
    vec4 texel = texture(map, texture_at);
    albedo *= vec4(linear_from_srgb(texel.rgb), texel.a);
  }
  vec3 shown = mix(albedo.rgb, linear_from_srgb(paint.rgb), paint.a);
  float hot = clamp(heat, 0.0, 1.0);
  shown = mix(shown, linear_from_srgb(warm(hot)), 0.92 * sqrt(hot));
  if (lit) {
    vec3 a = dFdx(in_view), b = dFdy(in_view), facet = cross(a, b);
    vec3 normal = carried(normal_in_view, dFdx(rest_in_view), dFdy(rest_in_view), a, b);
    if (flat_shaded || dot(normal_in_view, normal_in_view) < 0.01) normal = facet;
    normal = normalize(normal);
    if (dot(normal, facet) < 0.0) normal = -normal; // seen from inside
    shown = shown * light(normal) + gloss(normal, normalize(-in_view));
  }
  color = vec4(srgb_from_linear(shown) * albedo.a, albedo.a);
}
