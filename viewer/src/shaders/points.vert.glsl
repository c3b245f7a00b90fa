precision highp float;

uniform mat4 modelViewMatrix;
uniform mat4 projectionMatrix;
uniform float focal_px;
uniform float radius;
uniform float least_px;

in vec3 position;
in vec4 color;

flat out vec4 shown;
flat out float depth; // along the view
flat out float reach; // of the point, in world units
uniform float most_px;

void main() {
  vec4 at = modelViewMatrix * vec4(position, 1.0);
  depth = -at.z;
  float diameter_px = clamp(2.0 * radius * focal_px / max(depth, 1e-9), least_px, most_px);
  reach = 0.5 * diameter_px * depth / focal_px;
  shown = color;
  gl_Position = projectionMatrix * at;
  gl_PointSize = diameter_px;
}
