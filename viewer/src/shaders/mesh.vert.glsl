uniform mat4 modelViewMatrix;
uniform mat4 projectionMatrix;

in vec3 position;
in vec3 normal;
in vec2 uv;
in vec4 color;

out vec3 in_view;
out vec3 rest_in_view;
out vec3 normal_in_view;
out vec2 texture_at;
out vec4 vertex_color; // linear
out float heat;
out vec4 paint;

void main() {
  vec4 at = modelViewMatrix * vec4(position, 1.0);
  in_view = rest_in_view = at.xyz;
  normal_in_view = mat3(modelViewMatrix) * normal;
  texture_at = vec2(uv.x, 1.0 - uv.y); // textures begin at their upper left
  vertex_color = vec4(linear_from_srgb(color.rgb), color.a);
  heat = 0.0;
  paint = vec4(0.0);
  gl_Position = projectionMatrix * at;
}
